// Node's http server with answers of every framing; a line `ID STATUS PATH` a request on standard output.
const fs = require('node:fs');
const http = require('node:http');

http.createServer((request, response) => {
  fs.writeSync(1, `${request.headers['x-request-id'] ?? '-'} 200 ${request.url}\n`);
  if (request.url === '/chunked') {
    response.write('in ');
    response.end('pieces\n');
  } else if (request.url === '/closing') {
    response.useChunkedEncodingByDefault = false;
    response.setHeader('Connection', 'close');
    response.removeHeader('Transfer-Encoding');
    response.write('to the ');
    response.end('end\n');
  } else {
    response.setHeader('Content-Length', 13);
    response.end('a small file\n');
  }
}).listen(Number(process.argv[2]), '127.0.0.1');
