"""OpenAI's routes: what comes in and goes out, over models that say what a script says."""

import asyncio
import json
import shutil
import signal
import sys
import urllib.request

import numpy as np
import pytest

import kerax
from kerax import language
from tests.language import llama
from tests.language.conftest import tokenizer_folder as tokenizer_folder
from tests.serve.client import get, post, send
from tests.serve.script import chain, model_of, tokens_of
from tests.serve.test_running import Process

pytest.importorskip("starlette")
pytest.importorskip("jinja2")
TEXT, ANSWER, END = "né€😀 stop!", 4, 2
CHAT = {"model": "scripted", "messages": [{"role": "user", "content": "Q"}]}
TEXTS = {"model": "scripted", "prompt": "Q"}


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder):
    return language.Tokenizer(tokenizer_folder)


@pytest.fixture(scope="module")
def llama_model():
    kerax.utils.set_random_seed(0)
    model = language.create(llama.CONFIG | {"max_position_embeddings": 128})
    model.set_weights([4 * weight if weight.ndim == 2 else weight for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def app(tokenizer, llama_model):
    said, question = tokens_of(tokenizer, TEXT), tokens_of(tokenizer, "Q")[0]
    scripted = model_of(chain([ANSWER, *said, END]) | {question: said[0]})
    forever = model_of({question: said[0]} | chain([*said[:5]]) | {said[4]: said[0]})
    models = {
        "scripted": kerax.serve.LanguageModel(scripted, tokenizer, slots=4, cache_length=64),
        "forever": kerax.serve.LanguageModel(forever, tokenizer, slots=1, cache_length=10**6, max_queue=0),
        "llama": kerax.serve.LanguageModel(llama_model, tokenizer, slots=16),
        "dense": kerax.Sequential([kerax.Input((4,)), kerax.layers.Dense(3)]),
    }
    server = kerax.serve.Server(models)
    server.wait()
    yield server
    server.close()


def chat(app, **fields):
    return post(app, "/v1/chat/completions", CHAT | fields).json()


def complete(app, **fields):
    return post(app, "/v1/completions", TEXTS | fields).json()


def events(answer):
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in answer.body.decode().split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines) and lines[-1] == "data: [DONE]"
    return [json.loads(line[6:]) for line in lines[:-1]]


@pytest.mark.medium
def test_a_chat_is_answered(app):
    found = chat(app)
    (choice,) = found["choices"]
    assert choice["message"] == {"role": "assistant", "content": TEXT}
    assert (choice["finish_reason"], choice["index"], choice["logprobs"]) == ("stop", 0, None)
    assert found["object"] == "chat.completion" and found["id"].startswith("chatcmpl-") and found["model"] == "scripted"
    # `<|user|>Q</s>\n<|assistant|>` in, each byte and the end out.
    assert found["usage"] == {"prompt_tokens": 5, "completion_tokens": 17, "total_tokens": 22}


def test_a_text_is_continued(app):
    found = complete(app, max_tokens=20)
    (choice,) = found["choices"]
    assert (choice["text"], choice["finish_reason"]) == (TEXT, "stop")
    assert found["object"] == "text_completion" and found["usage"]["prompt_tokens"] == 2  # with `<s>`
    short = complete(app, max_tokens=3)
    assert (short["choices"][0]["text"], short["choices"][0]["finish_reason"]) == ("né", "length")
    assert complete(app, echo=True, max_tokens=1)["choices"][0]["text"] == "Qn"


def test_several_prompts_and_answers_have_an_index_each(app, tokenizer):
    tokens = tokens_of(tokenizer, "Q")
    for prompt, number in ((["Q", "s"], 4), (tokens, 1), ([tokens, tokens], 2)):
        found = complete(app, prompt=prompt, n=2 if number == 4 else 1)
        assert [choice["index"] for choice in found["choices"]] == list(range(number))
    assert [choice["text"] for choice in complete(app, prompt=["Q", "s"])["choices"]] == [TEXT, "top!"]


def test_what_ends_a_text_is_no_part_of_it(app, tokenizer):
    found = complete(app, stop=["€", "zz"])
    assert (found["choices"][0]["text"], found["choices"][0]["finish_reason"]) == ("né", "stop")
    assert chat(app, stop="st" + "op")["choices"][0]["message"]["content"] == "né€😀 "
    assert chat(app, stop="p?")["choices"][0]["message"]["content"] == TEXT
    token = tokens_of(tokenizer, "t")[0]
    assert chat(app, stop_token_ids=[token])["choices"][0]["message"]["content"] == "né€😀 s"


def test_a_stream_gives_whole_characters_and_no_part_of_a_stop_string(app):
    found = events(post(app, "/v1/chat/completions", CHAT | {"stream": True, "stop": "op!"}))
    deltas = [chunk["choices"][0]["delta"] for chunk in found]
    assert deltas[0] == {"role": "assistant", "content": ""} and deltas[-1] == {}
    pieces = [delta["content"] for delta in deltas[1:-1]]
    assert len(pieces) > 2 and "".join(pieces) == "né€😀 st"
    assert all("\ufffd" not in piece for piece in pieces)
    assert [chunk["choices"][0]["finish_reason"] for chunk in found] == [None] * (len(found) - 1) + ["stop"]
    assert {chunk["object"] for chunk in found} == {"chat.completion.chunk"} and len({c["id"] for c in found}) == 1
    assert all("usage" not in chunk for chunk in found)


def test_a_stream_ends_with_the_usage_if_asked(app):
    fields = {"stream": True, "stream_options": {"include_usage": True}, "n": 2, "echo": True}
    *found, last = events(post(app, "/v1/completions", TEXTS | fields))
    for index in range(2):
        own = [chunk["choices"][0] for chunk in found if chunk["choices"][0]["index"] == index]
        assert "".join(choice["text"] for choice in own) == "Q" + TEXT
    assert last["choices"] == [] and last["usage"] == {"prompt_tokens": 2, "completion_tokens": 32, "total_tokens": 34}
    assert all(chunk["usage"] is None for chunk in found)


def test_log_probabilities_of_a_chat(app):
    (choice,) = chat(app, logprobs=True, top_logprobs=2, max_tokens=3)["choices"]
    first, second, third = choice["logprobs"]["content"]
    expected = 20 - np.log(np.exp(20.0) + 319)
    assert (first["token"], first["bytes"]) == ("n", [110])
    assert first["logprob"] == pytest.approx(expected, abs=1e-5)
    assert first["top_logprobs"][0] == {key: first[key] for key in ("token", "logprob", "bytes")}
    assert len(first["top_logprobs"]) == 2 and first["top_logprobs"][1]["logprob"] == pytest.approx(expected - 20)
    assert (second["token"], second["bytes"], third["bytes"]) == ("bytes:\\xc3", [0xC3], [0xA9])
    streamed = events(post(app, "/v1/chat/completions", CHAT | {"logprobs": True, "max_tokens": 3, "stream": True}))
    parts = [(chunk["choices"][0]["logprobs"] or {"content": []})["content"] for chunk in streamed]
    assert [one["bytes"] for part in parts for one in part] == [[110], [0xC3], [0xA9]]


def test_log_probabilities_of_a_text(app):
    (choice,) = complete(app, logprobs=1, stop="€")["choices"]
    found = choice["logprobs"]
    assert found["tokens"] == ["n", "bytes:\\xc3", "bytes:\\xa9"] and found["text_offset"] == [0, 1, 1]
    assert found["token_logprobs"] == pytest.approx([20 - np.log(np.exp(20.0) + 319)] * 3, abs=1e-5)
    assert [list(top) for top in found["top_logprobs"]] == [[token] for token in found["tokens"]]


def test_models_are_listed(app):
    found = get(app, "/v1/models").json()
    assert [one["id"] for one in found["data"]] == ["scripted", "forever", "llama"]
    one = get(app, "/v1/models/scripted").json()
    assert one["object"] == "model" and one["max_model_len"] == 64
    assert one["model_version_status"][0]["state"] == "AVAILABLE"
    assert "id" not in get(app, "/v1/models/dense").json()
    assert "/v1/chat/completions" in get(app, "/openapi.json").json()["paths"]


BAD = {
    "model": ({"model": None}, "model", "name of a model"),
    "not text": ({"model": "dense"}, "model", "no language model"),
    "temperature": ({"temperature": -1}, "temperature", "at least 0"),
    "temperature text": ({"temperature": "hot"}, "temperature", "a number"),
    "top_p": ({"top_p": 2}, "top_p", "at most 1"),
    "top_k": ({"top_k": 0.5}, "top_k", "an integer"),
    "n": ({"n": 0}, "n", "at least 1"),
    "seed": ({"seed": 1.5}, "seed", "an integer"),
    "max_tokens": ({"max_tokens": 0}, "max_tokens", "at least 1"),
    "stop": ({"stop": ["a", ""]}, "stop", "not empty"),
    "stop_token_ids": ({"stop_token_ids": [999]}, "stop_token_ids", "at most 319"),
    "logit_bias": ({"logit_bias": {"5": 200}}, "logit_bias", "at most 100"),
    "presence_penalty": ({"presence_penalty": 3}, "presence_penalty", "at most 2"),
    "stream": ({"stream": 1}, "stream", "true or false"),
    "stream_options": ({"stream_options": {"include_usage": "x"}}, "stream_options", "true or false"),
    "tools": ({"tools": [{}]}, "tools", "not supported"),
    "misspelt": ({"temprature": 1}, "temprature", "Did you mean 'temperature'"),
}
BAD_CHAT = BAD | {
    "messages": ({"messages": []}, "messages", "at least one message"),
    "no content": ({"messages": [{"role": "user"}]}, "messages", "`content`"),
    "picture": ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages", "parts of text"),
    "top_logprobs": ({"top_logprobs": 2}, "top_logprobs", "needs `logprobs`"),
    "too many": ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "at most 20"),
    "prompt": ({"prompt": "Q"}, "prompt", "not supported"),
}
BAD_TEXT = BAD | {
    "no prompt": ({"prompt": None}, "prompt", "a text, a list"),
    "empty prompt": ({"prompt": [[]]}, "prompt", "none empty"),
    "unknown token": ({"prompt": [320]}, "prompt", "below 320"),
    "logprobs": ({"logprobs": True}, "logprobs", "an integer"),
    "echo": ({"echo": True, "logprobs": 1}, "echo", "are not told"),
}


@pytest.mark.parametrize(("fields", "param", "message"), BAD_CHAT.values(), ids=BAD_CHAT)
def test_a_bad_chat_is_refused_by_the_name_of_its_field(app, fields, param, message):
    check_refusal(post(app, "/v1/chat/completions", CHAT | fields), param, message)


@pytest.mark.parametrize(("fields", "param", "message"), BAD_TEXT.values(), ids=BAD_TEXT)
def test_a_bad_text_is_refused_by_the_name_of_its_field(app, fields, param, message):
    check_refusal(post(app, "/v1/completions", TEXTS | fields), param, message)


def check_refusal(answer, param, message):
    error = answer.json()["error"]
    assert answer.status == 400 and error["type"] == "invalid_request_error"
    assert error["param"] == param and message in error["message"]


def test_other_mistakes_have_their_status(app):
    unknown = post(app, "/v1/completions", TEXTS | {"model": "scriptd"})
    assert unknown.status == 404 and unknown.json()["error"]["code"] == "model_not_found"
    assert "Did you mean 'scripted'" in unknown.json()["error"]["message"]
    assert post(app, "/v1/completions", b"{").json()["error"]["type"] == "invalid_request_error"
    assert post(app, "/v1/completions", b"[1]").status == 400
    assert get(app, "/v1/completions").status == 405
    assert post(app, "/v2/models/scripted/infer", {"inputs": []}).status == 400
    assert "/v1/completions" in post(app, "/v1/models/scripted:predict", {"instances": [1]}).error


def test_what_is_longer_than_the_cache_is_refused_clearly(app):
    for fields, param in (({"prompt": "Q" * 70}, "prompt"), ({"max_tokens": 63}, "max_tokens")):
        error = complete(app, **fields)["error"]
        assert (error["code"], error["param"]) == ("context_length_exceeded", param)
        assert "At most 64 fit." in error["message"]
    assert complete(app, max_tokens=62)["choices"]


def test_a_template_that_fails_is_the_callers_mistake(app, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", "{{ raise_exception('only users speak') }}")
    error = chat(app)["error"]
    assert error["param"] == "messages" and "only users speak" in error["message"]
    monkeypatch.setattr(tokenizer, "chat_template", None)
    assert "no chat template" in chat(app)["error"]["message"]


def test_parts_of_text_and_variables_reach_the_template(app, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", "{{ messages[0].content }}{{ ending }}")
    parts = [{"type": "text", "text": "s"}, {"type": "text", "text": "!"}]
    found = chat(app, messages=[{"role": "user", "content": parts}], chat_template_kwargs={"ending": "Q"})
    assert found["choices"][0]["message"]["content"] == TEXT and found["usage"]["prompt_tokens"] == 3


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_client_that_leaves_frees_its_slot(app, is_stream):
    body = {"model": "forever", "prompt": "Q", "max_tokens": 900_000, "stream": is_stream}
    engine = app.repository.find("forever").model.engine

    async def leave():
        end = asyncio.Event()
        going = asyncio.create_task(send(app, "POST", "/v1/completions", body, end=end))
        while not engine.slots_in_use:
            await asyncio.sleep(0.01)
        # Nobody else fits in: one slot, and no place to wait.
        refused = await send(app, "POST", "/v1/completions", body | {"stream": False})
        assert refused.status == 429 and refused.json()["error"]["type"] == "rate_limit_error"
        assert refused.headers["retry-after"] == "1"
        end.set()
        assert (await going).status == (200 if is_stream else 499)
        while engine.slots_in_use:
            await asyncio.sleep(0.01)
        return await send(app, "POST", "/v1/completions", body | {"max_tokens": 3, "stream": False})

    assert asyncio.run(asyncio.wait_for(leave(), 60)).json()["choices"][0]["text"] == "né"


@pytest.mark.medium
def test_sixteen_clients_get_what_each_gets_alone(app):
    bodies = [
        {"model": "llama", "prompt": "the sea" * (1 + number % 5), "seed": number, "max_tokens": 20, "ignore_eos": True}
        for number in range(16)
    ]

    async def all_at_once():
        return await asyncio.gather(*[send(app, "POST", "/v1/completions", body) for body in bodies])

    def texts(answers):
        return [answer.json()["choices"][0]["text"] for answer in answers]

    together = texts(asyncio.run(all_at_once()))
    assert together == texts(post(app, "/v1/completions", body) for body in bodies)
    assert len(set(together)) > 8


def test_answers_to_one_seed_differ_from_each_other_and_come_again(app):
    body = {"model": "llama", "prompt": "the sea", "seed": 5, "n": 3, "max_tokens": 12}
    first, again = (post(app, "/v1/completions", body).json() for _ in range(2))
    texts = [choice["text"] for choice in first["choices"]]
    assert len(set(texts)) == 3 and texts == [choice["text"] for choice in again["choices"]]


def test_metrics_tell_of_tokens_and_slots(app):
    complete(app)
    shown = get(app, "/metrics").body.decode()
    assert 'kerax_slots{model="scripted",version="1"} 4.0' in shown
    assert 'kerax_slots_in_use{model="scripted",version="1"} 0.0' in shown
    assert 'kerax_tokens_total{kind="decode",model="scripted",version="1"}' in shown
    assert 'kerax_first_token_seconds_count{model="scripted",version="1"}' in shown
    assert 'kerax_requests_total{model="scripted",status="200",version="1"}' in shown


def test_nothing_is_compiled_once_it_is_ready(app):
    entry = app.repository.find("scripted")
    before = entry.model.num_programs
    complete(app, temperature=0.5, top_k=3, logprobs=2, presence_penalty=1, n=2)
    assert entry.model.num_programs == before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_folder_is_served_until_sigterm_and_what_was_begun_is_finished(tmp_path, tokenizer_folder):
    folder = llama.write(tmp_path / "chat", config=llama.CONFIG | {"max_position_embeddings": 1024})
    for file in tokenizer_folder.iterdir():
        shutil.copy(file, folder)
    served = Process(folder, "--slots", "2", "--cache_length", "1000", "--drain", "0")
    try:
        body = {"model": "chat", "prompt": "the sea", "max_tokens": 900, "ignore_eos": True, "stream": True}
        address = f"http://127.0.0.1:{served.port}/v1/completions"
        with urllib.request.urlopen(address, json.dumps(body).encode()) as answer:
            first = answer.readline()
            served.process.send_signal(signal.SIGTERM)
            *_, last, done = (line for line in answer.read().split(b"\n\n") if line)
        assert b'"finish_reason":null' in first and b'"finish_reason":"length"' in last and done == b"data: [DONE]"
        assert served.process.wait(30) == 0
    finally:
        served.process.kill()
        served.process.wait()


@pytest.mark.slow
def test_a_keras_file_beside_a_tokenizer_is_a_language_model(tmp_path, tokenizer_folder):
    folder = tmp_path / "own"
    shutil.copytree(tokenizer_folder, folder)
    model = kerax.Sequential([kerax.Input((None,), dtype="int32"), kerax.layers.Embedding(320, 320)])
    model.save(folder / "model.keras")
    server = kerax.serve.Server([str(folder)], slots=1, cache_length=32)
    server.wait()
    found = post(server, "/v1/completions", {"model": "own", "prompt": "Q", "max_tokens": 3, "ignore_eos": True})
    assert found.json()["usage"]["completion_tokens"] == 3
    server.load("own")  # a new one answers, and the old one is closed
    again = post(server, "/v1/completions", {"model": "own", "prompt": "Q", "max_tokens": 3, "ignore_eos": True})
    assert again.status == 200
    server.close()


def test_folders_that_cannot_be_served_say_why(tmp_path, tokenizer_folder):
    folder = llama.write(tmp_path / "chat")
    with pytest.raises(FileNotFoundError, match=r"no tokenizer\.json"):
        kerax.serve.Server([str(folder)])
    for file in tokenizer_folder.iterdir():
        shutil.copy(file, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pickle"):
        kerax.serve.Server([str(folder)])
