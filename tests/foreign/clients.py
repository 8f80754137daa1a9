"""Requests to the stub by two Python clients: ROUNDS each of every kind; what each counted, as JSON."""
import asyncio
import json
import sys

import aiohttp
import httpx

URL, ROUNDS = sys.argv[1], int(sys.argv[2])


async def pieces():
    yield b"in "
    yield b"pieces"


async def by_httpx():
    count = 0
    async with httpx.AsyncClient(trust_env=False) as client:
        for n in range(ROUNDS):
            for content in (b"whole", pieces()):
                answer = await client.post(URL, content=content, headers={"X-Request-Id": str(n)})
                count += answer.status_code == 200 and answer.json()["id"] == str(n)
    return count


async def by_aiohttp():
    count = 0

    async def one(session, n, data):
        async with session.post(URL, data=data, headers={"X-Request-Id": str(n)}) as answer:
            return answer.status == 200 and (await answer.json())["id"] == str(n)

    async with aiohttp.ClientSession() as session:
        for n in range(ROUNDS):
            count += sum(await asyncio.gather(one(session, n, b"whole"), one(session, n, pieces())))
    return count


print(json.dumps({"httpx": asyncio.run(by_httpx()), "aiohttp": asyncio.run(by_aiohttp())}))
