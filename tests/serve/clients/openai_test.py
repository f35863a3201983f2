import json
import os
import unittest
from concurrent.futures import ThreadPoolExecutor

import openai
from pydantic import BaseModel

client = openai.OpenAI(base_url=os.environ["SERVER"] + "/v1", api_key="secret", max_retries=0)
MODEL = os.environ["MODEL"]
ASK = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "The weather in a city", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["C", "F"]}},
    "required": ["city", "unit"], "additionalProperties": False}}}
TIME = {"type": "function", "function": {"name": "get_time", "parameters": {
    "type": "object", "properties": {"zone": {"enum": ["CET", "UTC"]}}, "required": ["zone"],
    "additionalProperties": False}}}


def chat(**more):
    more.setdefault("messages", ASK)
    more.setdefault("max_tokens", 16)
    return client.chat.completions.create(model=MODEL, **more)


class City(BaseModel):
    name: str
    population: int


class ChatCompletions(unittest.TestCase):
    def test_answers(self):
        answer = chat()
        self.assertEqual(answer.choices[0].message.content, "The capital of France is Paris.")
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)
        self.assertEqual(chat(max_completion_tokens=2).choices[0].finish_reason, "length")

    def test_streams(self):
        chunks = list(chat(stream=True, stream_options={"include_usage": True}))
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        self.assertEqual(len({c.id for c in chunks}), 1)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        self.assertEqual(text, "The capital of France is Paris.")
        self.assertEqual(chunks[-1].usage.completion_tokens, 8)
        with client.chat.completions.stream(model=MODEL, messages=ASK, max_tokens=16) as stream:
            self.assertEqual(stream.get_final_completion().choices[0].message.content, text)

    def test_several_answers_with_seeds(self):
        texts = [[c.message.content for c in chat(n=3, seed=5, temperature=1).choices] for _ in range(2)]
        self.assertEqual(texts[0], texts[1])
        self.assertEqual(len(set(texts[0])), 3)

    def test_stop_words(self):
        self.assertEqual(chat(stop=[" France", "xyz"]).choices[0].message.content, "The capital of")

    def test_logprobs(self):
        content = chat(logprobs=True, top_logprobs=3).choices[0].logprobs.content
        self.assertEqual("".join(t.token for t in content), "The capital of France is Paris.")
        self.assertTrue(all(len(t.top_logprobs) == 3 and t.logprob <= 0 for t in content))
        streamed = [t for c in chat(logprobs=True, stream=True) if c.choices and c.choices[0].logprobs
                    for t in c.choices[0].logprobs.content]
        self.assertEqual([t.token for t in streamed], [t.token for t in content])

    def test_logit_bias_and_penalties(self):
        capital = chat(logprobs=True).choices[0].logprobs.content[1]
        token = capital.model_extra["id"]
        self.assertNotIn(" capital", chat(logit_bias={str(token): -100}).choices[0].message.content)
        chat(frequency_penalty=0.5, presence_penalty=0.5, extra_body={"repetition_penalty": 1.1, "top_k": 5})

    def test_parses_into_a_class(self):
        answer = client.chat.completions.parse(
            model=MODEL, messages=[{"role": "user", "content": "Tell me of Paris, as JSON."}], max_tokens=200,
            temperature=1, seed=1, response_format=City)
        self.assertIsInstance(answer.choices[0].message.parsed, City)
        text = chat(response_format={"type": "json_object"}, max_tokens=200, seed=2).choices[0].message.content
        self.assertIsInstance(json.loads(text), dict)

    def test_tools(self):
        ask = [{"role": "user", "content": "What is the weather in Paris, in C?"}]
        answer = chat(messages=ask, tools=[WEATHER, TIME], tool_choice="required", max_tokens=200)
        self.assertEqual(answer.choices[0].finish_reason, "tool_calls")
        for call in answer.choices[0].message.tool_calls:
            self.assertIn(call.function.name, ["get_weather", "get_time"])
            self.assertIsInstance(json.loads(call.function.arguments), dict)
        named = chat(messages=ask, tools=[WEATHER, TIME], max_tokens=200, stream=True,
                     tool_choice={"type": "function", "function": {"name": "get_weather"}})
        name, arguments, ids = "", "", set()
        for chunk in named:
            for call in chunk.choices[0].delta.tool_calls or []:
                name += call.function.name or ""
                arguments += call.function.arguments or ""
                ids.add(call.id)
        self.assertEqual(name, "get_weather")
        self.assertEqual(set(json.loads(arguments)), {"city", "unit"})
        self.assertEqual(len(ids - {None}), 1)
        self.assertIsNone(chat(messages=ask, tools=[WEATHER], tool_choice="none").choices[0].message.tool_calls)
        # Back with the result.
        call = answer.choices[0].message
        again = chat(messages=ask + [call] + [{"role": "tool", "tool_call_id": c.id, "content": "18 C"}
                                              for c in call.tool_calls], tools=[WEATHER, TIME])
        self.assertIsNotNone(again.choices[0].message)

    def test_many_clients_get_what_they_get_alone(self):
        ask = lambda i: chat(messages=[{"role": "user", "content": f"Tell me about the number {i}."}]
                             ).choices[0].message.content
        alone = [ask(i) for i in range(64)]
        with ThreadPoolExecutor(64) as pool:
            self.assertEqual(list(pool.map(ask, range(64))), alone)

    def test_errors(self):
        for fields, status in [({"temperature": -1}, 400), ({"messages": []}, 400), ({"n": 1000}, 400)]:
            with self.assertRaises(openai.BadRequestError) as caught:
                chat(**fields)
            self.assertEqual(caught.exception.status_code, status)
            self.assertEqual(caught.exception.param, next(iter(fields)))
        with self.assertRaises(openai.NotFoundError):
            client.chat.completions.create(model="../secret", messages=ASK)
        with self.assertRaises(openai.AuthenticationError):
            openai.OpenAI(base_url=os.environ["SERVER"] + "/v1", api_key="wrong").models.list()


class Others(unittest.TestCase):
    def test_models(self):
        self.assertEqual([m.id for m in client.models.list()], [MODEL])
        self.assertEqual(client.models.retrieve(MODEL).object, "model")

    def test_completions(self):
        answer = client.completions.create(model=MODEL, prompt="The capital of France is", max_tokens=4, logprobs=2)
        self.assertIn("Paris", answer.choices[0].text)
        self.assertEqual(len(answer.choices[0].logprobs.tokens), 4)
        text = "".join(c.choices[0].text for c in client.completions.create(
            model=MODEL, prompt="The capital of France is", max_tokens=4, stream=True) if c.choices)
        self.assertEqual(text, answer.choices[0].text)


class Responses(unittest.TestCase):
    def test_creates(self):
        answer = client.responses.create(model=MODEL, input="What is the capital of France?", max_output_tokens=16,
                                         instructions="Be brief.", metadata={"a": "b"})
        self.assertEqual(answer.output_text, "The capital of France is Paris.")
        self.assertEqual(answer.status, "completed")
        self.assertEqual(answer.metadata, {"a": "b"})
        cut = client.responses.create(model=MODEL, input="What is the capital of France?", max_output_tokens=2)
        self.assertEqual((cut.status, cut.incomplete_details.reason), ("incomplete", "max_output_tokens"))

    def test_streams(self):
        with client.responses.stream(model=MODEL, input=ASK, max_output_tokens=16) as stream:
            events = list(stream)
            final = stream.get_final_response()
        self.assertEqual(final.output_text, "The capital of France is Paris.")
        self.assertEqual("".join(e.delta for e in events if e.type == "response.output_text.delta"), final.output_text)
        self.assertEqual(events[0].type, "response.created")
        self.assertEqual(events[-1].type, "response.completed")

    def test_parses_into_a_class(self):
        answer = client.responses.parse(model=MODEL, input="Tell me of Paris, as JSON.", max_output_tokens=200,
                                        text_format=City)
        self.assertIsInstance(answer.output_parsed, City)

    def test_tools(self):
        tool = {"type": "function", "strict": True, **WEATHER["function"]}
        ask = [{"role": "user", "content": "What is the weather in Paris?"}]
        events = list(client.responses.create(model=MODEL, input=ask, tools=[tool], tool_choice="required",
                                              max_output_tokens=200, stream=True))
        answer = events[-1].response
        calls = [item for item in answer.output if item.type == "function_call"]
        self.assertTrue(calls)
        deltas = "".join(e.delta for e in events if e.type == "response.function_call_arguments.delta"
                         and e.output_index == 0)
        self.assertEqual(deltas, calls[0].arguments)
        self.assertEqual(set(json.loads(calls[0].arguments)), {"city", "unit"})
        more = ask + [item.to_dict() for item in answer.output] + [
            {"type": "function_call_output", "call_id": c.call_id, "output": "18 C"} for c in calls]
        self.assertTrue(client.responses.create(model=MODEL, input=more, tools=[tool], max_output_tokens=16).output)

    def test_errors(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            client.responses.create(model=MODEL, input="x", previous_response_id="resp_1")
        self.assertEqual(caught.exception.param, "previous_response_id")
        with self.assertRaises(openai.BadRequestError) as caught:
            client.responses.create(model=MODEL, input=[{"type": "item_reference", "id": "x"}])
        self.assertEqual(caught.exception.param, "input[0].type")
