"""The server as the `openai` package sees it."""

import asyncio
import socket
import threading

import pytest

import kerax
from kerax import language
from tests.language.conftest import tokenizer_folder as tokenizer_folder
from tests.serve.script import chain, model_of, tokens_of

openai = pytest.importorskip("openai")
uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("jinja2")
TEXT, ANSWER, END = "né€😀 stop!", 4, 2
QUESTION = [{"role": "user", "content": "Q"}]


@pytest.fixture(scope="module")
def address(tokenizer_folder):
    tokenizer = language.Tokenizer(tokenizer_folder)
    said, question = tokens_of(tokenizer, TEXT), tokens_of(tokenizer, "Q")[0]
    model = model_of(chain([ANSWER, *said, END]) | {question: said[0]})
    server = kerax.serve.Server({"scripted": kerax.serve.LanguageModel(model, tokenizer, slots=4, cache_length=64)})
    server.wait()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        process = uvicorn.Server(uvicorn.Config(server, log_level="error", lifespan="on"))
        thread = threading.Thread(target=process.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        process.should_exit = True
        thread.join()


@pytest.fixture
def client(address):
    with openai.OpenAI(base_url=address, api_key="none", max_retries=0) as client:
        yield client


@pytest.mark.medium
def test_models(client):
    assert [model.id for model in client.models.list()] == ["scripted"]
    assert client.models.retrieve("scripted").owned_by == "kerax"


def test_a_chat(client):
    found = client.chat.completions.create(
        model="scripted", messages=QUESTION, logprobs=True, top_logprobs=2, n=2, max_completion_tokens=40, user="me"
    )
    assert [choice.message.content for choice in found.choices] == [TEXT] * 2
    assert found.choices[0].finish_reason == "stop" and found.usage.completion_tokens == 34
    assert bytes(b for one in found.choices[0].logprobs.content for b in one.bytes).decode() == TEXT


def test_a_chat_as_a_stream(client):
    fields = {"stream": True, "stop": ["op"], "stream_options": {"include_usage": True}}
    *chunks, last = client.chat.completions.create(model="scripted", messages=QUESTION, **fields)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == "né€😀 st" and chunks[-1].choices[0].finish_reason == "stop"
    assert last.usage.prompt_tokens == 5 and last.choices == []
    with client.chat.completions.stream(model="scripted", messages=QUESTION) as stream:
        assert stream.get_final_completion().choices[0].message.content == TEXT


def test_a_text(client):
    found = client.completions.create(model="scripted", prompt="Q", max_tokens=30, logprobs=1, seed=3, temperature=0)
    assert found.choices[0].text == TEXT and len(found.choices[0].logprobs.tokens) == 16
    stream = client.completions.create(model="scripted", prompt="Q", max_tokens=3, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == "né"


def test_mistakes_are_exceptions_of_their_kind(client):
    with pytest.raises(openai.BadRequestError) as wrong:
        client.completions.create(model="scripted", prompt="Q", temperature=-1)
    assert wrong.value.param == "temperature" and "at least 0" in wrong.value.message
    with pytest.raises(openai.NotFoundError) as wrong:
        client.completions.create(model="other", prompt="Q")
    assert wrong.value.code == "model_not_found"


@pytest.mark.medium
def test_sixteen_clients(address):
    async def ask(number):
        async with openai.AsyncOpenAI(base_url=address, api_key="none") as client:
            stream = await client.chat.completions.create(
                model="scripted", messages=QUESTION, stream=True, max_tokens=1 + number
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def all_at_once():
        return await asyncio.gather(*map(ask, range(16)))

    texts = [TEXT.encode()[: 1 + number].decode(errors="replace") for number in range(16)]
    assert asyncio.run(all_at_once()) == texts
