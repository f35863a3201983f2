import os
import unittest

import anthropic

client = anthropic.Anthropic(base_url=os.environ["SERVER"], api_key="secret", max_retries=0)
MODEL = os.environ["MODEL"]
ASK = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER = {"name": "get_weather", "description": "The weather in a city", "input_schema": {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["C", "F"]}},
    "required": ["city", "unit"], "additionalProperties": False}}


def create(**more):
    more.setdefault("messages", ASK)
    more.setdefault("max_tokens", 16)
    return client.messages.create(model=MODEL, **more)


class Messages(unittest.TestCase):
    def test_answers(self):
        message = create(system=[{"type": "text", "text": "You are a helpful assistant."}])
        self.assertEqual(message.content[0].text, "The capital of France is Paris.")
        self.assertEqual(message.stop_reason, "end_turn")
        self.assertGreater(message.usage.output_tokens, 0)
        self.assertEqual(create(max_tokens=2).stop_reason, "max_tokens")

    def test_streams(self):
        with client.messages.stream(model=MODEL, messages=ASK, max_tokens=16) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        self.assertEqual(text, "The capital of France is Paris.")
        self.assertEqual(final.content[0].text, text)
        self.assertEqual(final.usage.output_tokens, 8)

    def test_stop_sequences(self):
        message = create(stop_sequences=[" France"])
        self.assertEqual(message.content[0].text, "The capital of")
        self.assertEqual((message.stop_reason, message.stop_sequence), ("stop_sequence", " France"))

    def test_goes_on_with_the_answer_s_beginning(self):
        message = create(messages=ASK + [{"role": "assistant", "content": "The capital of France is"}])
        self.assertTrue(message.content[0].text.lstrip().startswith("Paris"))

    def test_tools(self):
        ask = [{"role": "user", "content": "What is the weather in Paris?"}]
        message = create(messages=ask, tools=[WEATHER], tool_choice={"type": "any"}, max_tokens=200)
        self.assertEqual(message.stop_reason, "tool_use")
        use = message.content[-1]
        self.assertEqual(set(use.input), {"city", "unit"})
        with client.messages.stream(model=MODEL, messages=ask, tools=[WEATHER], max_tokens=200,
                                    tool_choice={"type": "tool", "name": "get_weather"}) as stream:
            self.assertEqual(set(stream.get_final_message().content[0].input), {"city", "unit"})
        again = create(messages=ask + [
            {"role": "assistant", "content": message.content},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": c.id, "content": "18 C"}
                                         for c in message.content if c.type == "tool_use"]}], tools=[WEATHER])
        self.assertTrue(again.content)

    def test_counts_tokens(self):
        count = client.messages.count_tokens(model=MODEL, messages=ASK).input_tokens
        usage = create().usage
        self.assertEqual(count, usage.input_tokens + usage.cache_read_input_tokens)

    def test_errors(self):
        with self.assertRaises(anthropic.BadRequestError) as caught:
            create(temperature=-1)
        self.assertEqual(caught.exception.body["error"]["type"], "invalid_request_error")
        self.assertIn("temperature", caught.exception.body["error"]["message"])
        with self.assertRaises(anthropic.BadRequestError) as caught:
            create(messages=[{"role": "user", "content": [{"type": "image", "source": {}}]}])
        self.assertIn("messages[0].content[0].type", str(caught.exception))
        with self.assertRaises(anthropic.NotFoundError):
            client.messages.create(model="no-such", messages=ASK, max_tokens=1)
        with self.assertRaises(anthropic.AuthenticationError):
            anthropic.Anthropic(base_url=os.environ["SERVER"], api_key="wrong").messages.create(
                model=MODEL, messages=ASK, max_tokens=1)
