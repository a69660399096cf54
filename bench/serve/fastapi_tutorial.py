"""The same echo as FastAPI's tutorial writes it: a model of the body, a dependency for the token."""

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

TOKENS = {"good": "predict:echo"}
app = FastAPI()
bearer = HTTPBearer()


class Item(BaseModel):
    text: str


def allowed(credentials: HTTPAuthorizationCredentials = Depends(bearer)):
    if TOKENS.get(credentials.credentials) != "predict:echo":
        raise HTTPException(status_code=401)
    return credentials.credentials


@app.post("/predict/echo", response_model=Item)
async def answer(item: Item, token: str = Depends(allowed)):
    return Item(text=item.text)
