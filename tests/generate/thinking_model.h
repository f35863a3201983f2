// A tiny random llama with tokens for reasoning.
#pragma once

#include "tests/load/tiny_model.h"

// Two bytes that no text has become <think> (1) and </think> (2). The prompt ends with `opening`.
inline TinyModel thinking_model(const std::string& opening = "") {
  TinyModel model;
  model.tokenizer_config["chat_template"] =
      "{% for m in messages %}<start>{{ m.role }}:{{ m.content }}\n{% endfor %}<start>assistant:" + opening;
  auto& vocabulary = model.tokenizer["model"]["vocab"];
  for (const auto& [id, text] : {std::pair(1, "<think>"), {2, "</think>"}}) {
    for (auto it = vocabulary.begin(); it != vocabulary.end(); ++it) {
      if (it.value() != id) continue;
      vocabulary.erase(it);
      break;
    }
    vocabulary[text] = id;
    model.tokenizer["added_tokens"].push_back({{"id", id},
                                               {"content", text},
                                               {"single_word", false},
                                               {"lstrip", false},
                                               {"rstrip", false},
                                               {"normalized", false},
                                               {"special", false}});
  }
  return model;
}
