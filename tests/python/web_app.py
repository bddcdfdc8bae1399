"""A program for test_stutter.py: a FastAPI app under uvicorn that takes 5 MB of text in a request.

    web_app.py SOCKET FOLDER

SOCKET is the number of an inherited one that listens. /ingest adds the text in a thread of the server's pool, /aingest in the
event loop, /spin computes as long with as many threads in C instead, which is what the first two are compared with.
"""

import hashlib
import socket
import sys
import threading
from pathlib import Path

import memalloy
import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool

app = FastAPI()
stop = threading.Event()


@app.get("/health")
async def health():
    return {"ok": True}


@app.post("/ingest")
async def ingest(request: Request):
    text = (await request.body()).decode()
    return {"id": await run_in_threadpool(app.state.kb.add_document, text)}


@app.post("/aingest")
async def aingest(request: Request):
    text = (await request.body()).decode()
    async with await memalloy.aopen(app.state.folder / "async", durability="normal") as kb:
        return {"id": await kb.add_document(text)}


def spin():
    while not stop.is_set():
        hashlib.pbkdf2_hmac("sha256", b"x", b"y", 50_000)


@app.post("/spin")
async def spin_instead(request: Request):
    (await request.body()).decode()
    stop.clear()
    other = threading.Thread(target=spin)
    other.start()
    await run_in_threadpool(spin)
    other.join()
    return {"id": ""}


@app.post("/stop")
async def stop_spinning():
    stop.set()
    return {"ok": True}


def main():
    app.state.folder = Path(sys.argv[2])
    with memalloy.open(app.state.folder / "kb", durability="normal") as kb:
        kb.add_document("warm")
        app.state.kb = kb
        config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1)
        uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


if __name__ == "__main__":
    main()
