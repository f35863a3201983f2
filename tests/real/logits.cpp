// Writes the logits of a model for a list of token ids, for kl.py:
// logits MODEL IDS.json OUT.safetensors [CHUNK [KV_BITS [KV_GROUP_SIZE]]]
#include <fstream>
#include <iostream>

#include "mlx_lm/mlx_lm.h"

int main(int argc, char** argv) try {
  namespace mx = mlx::core;
  if (argc < 4 || argc > 7) {
    std::cerr << "usage: " << argv[0] << " MODEL IDS.json OUT.safetensors [CHUNK [KV_BITS [KV_GROUP_SIZE]]]\n";
    return 2;
  }
  const auto ids = nlohmann::json::parse(std::ifstream(argv[2])).get<std::vector<int>>();
  const auto loaded = mlx_lm::load(argv[1]);
  auto caches = loaded.model->make_cache();
  const size_t chunk = argc > 4 ? std::stoul(argv[4]) : 256;  // tokens computed at a time
  const mlx_lm::ops::KVFormat format{argc > 5 ? std::stoi(argv[5]) : 0, argc > 6 ? std::stoi(argv[6]) : 64};
  std::vector<mx::array> parts;
  for (size_t start = 0; start < ids.size(); start += chunk) {
    const int n = int(std::min(chunk, ids.size() - start));
    for (auto& cache : caches) mlx_lm::cache::kv(*cache).quantize(format);
    parts.push_back((*loaded.model)(mx::array(ids.data() + start, {1, n}, mx::int32), caches));
    parts.back().eval();
  }
  const mx::array tokens(ids.begin(), {int(ids.size())}, mx::int32);
  mx::save_safetensors(argv[3], {{"logits", mx::concatenate(parts, 1)}, {"tokens", tokens}});
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
