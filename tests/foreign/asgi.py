"""What uvicorn serves: a length, or chunks; a line `ID STATUS PATH` a request on standard output."""


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    fields = dict(scope["headers"])
    path = scope["path"]
    body = [b"a small file\n"] if path == "/file" else [b"in ", b"pieces\n"]
    length = [(b"content-length", str(len(body[0])).encode())] if path == "/file" else []
    print(fields.get(b"x-request-id", b"-").decode(), 200, path)
    await send({"type": "http.response.start", "status": 200, "headers": length})
    for part in body:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
