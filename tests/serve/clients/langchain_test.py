import os
import unittest

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

chat = ChatOpenAI(base_url=os.environ["SERVER"] + "/v1", api_key="secret", model=os.environ["MODEL"], temperature=0,
                  max_tokens=100, max_retries=0)
ASK = "What is the capital of France?"


class City(BaseModel):
    name: str
    population: int


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return "18 C"


class LangChain(unittest.TestCase):
    def test_invokes_and_streams(self):
        self.assertEqual(chat.invoke(ASK).content, "The capital of France is Paris.")
        self.assertEqual("".join(c.content for c in chat.stream(ASK)), "The capital of France is Paris.")

    def test_structured_output(self):
        for method in ["json_schema", "function_calling"]:
            city = chat.with_structured_output(City, method=method).invoke("Tell me of Paris.")
            self.assertIsInstance(city, City, method)

    def test_tools(self):
        answer = chat.bind_tools([get_weather], tool_choice="any").invoke("What is the weather in Paris?")
        self.assertEqual(answer.tool_calls[0]["name"], "get_weather")
        self.assertEqual(set(answer.tool_calls[0]["args"]), {"city"})
