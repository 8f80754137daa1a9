// Requests to the stub by Node's http client: ROUNDS with a length and ROUNDS in chunks, over 4 kept connections; how many
// were answered as they should be.
const http = require('node:http');

const [url, rounds] = [process.argv[2], Number(process.argv[3])];
const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
let good = 0;

function post(id, chunked) {
  return new Promise((resolve, reject) => {
    const headers = { 'X-Request-Id': id, ...(chunked ? {} : { 'Content-Length': 5 }) };
    const request = http.request(url, { method: 'POST', agent, headers }, (response) => {
      let text = '';
      response.on('data', (part) => { text += part; });
      response.on('end', () => {
        good += response.statusCode === 200 && JSON.parse(text).id === id ? 1 : 0;
        resolve();
      });
    });
    request.on('error', reject);
    if (chunked) request.write('who');
    request.end(chunked ? 'le' : 'whole');
  });
}

(async () => {
  for (let n = 0; n < rounds; n += 1) await Promise.all([post(`a${n}`, false), post(`b${n}`, true)]);
  agent.destroy();
  console.log(good);
})();
