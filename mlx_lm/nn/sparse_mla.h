// Latent attention of the tokens that an indexer chooses (DeepSeek's sparse attention).
#pragma once

#include "mlx_lm/cache/cache_list.h"
#include "mlx_lm/nn/mla.h"

namespace mlx_lm::nn {

struct IndexerConfig {
  // Errors: ConfigError that names the field. interleaved: how its heads rotate, if the configuration does not say.
  IndexerConfig(const ConfigReader& c, const DecoderConfig& decoder, const MLAConfig& attention, bool interleaved);

  int heads, head_dim;
  int topk;  // tokens that a query attends; all, while there are no more
  Rope rope;
};

// Takes what MLA takes, and `indexer`: wq_b, wk, k_norm, weights_proj. Source: mlx-lm's models/deepseek_v32.py.
class SparseMLA {
 public:
  SparseMLA(const Weights& w, const MLAConfig& c, const IndexerConfig& indexer);
  // cache: the attention's and the indexer's, whose values nobody reads. (B, L, E) -> (B, L, E)
  mx::array operator()(const mx::array& x, cache::CacheList& cache) const;

 private:
  // Attends to what the indexer chooses for the queries from `begin` on, one for each row of scores, all of one text.
  mx::array sparse(const MLA::Step& step, const ops::KVSegment& seen, const mx::array& latent_queries,
                   const mx::array& scores, int begin) const;

  IndexerConfig c_;
  MLA mla_;
  Linear wq_b_, wk_, weights_proj_;
  LayerNorm k_norm_;
};

}  // namespace mlx_lm::nn
