"""The least that HTTP costs here: FastAPI under uvicorn answers with the bytes of a file, from memory.

In bench/: `python -m peers.canned PORT FILE`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Response

body = Path(sys.argv[2]).read_bytes()
app = FastAPI()


@app.get("/{_path:path}")
async def answer(_path: str) -> Response:
    return Response(body, media_type="application/json")


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
