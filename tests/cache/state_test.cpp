#include "mlx_lm/cache/state.h"

#include "mlx_lm/base/error.h"
#include "mlx_lm/cache/batch.h"
#include "mlx_lm/cache/cache_list.h"
#include "mlx_lm/cache/growing.h"
#include "mlx_lm/cache/saved_cache.h"

#include "tests/cache/cache_case.h"

namespace mlx_lm::cache {
namespace {

// A step of a layer that counts tokens in its first array and sums their numbers in its second, text by text.
void step(StateCache& cache, const std::vector<float>& tokens) {
  size_t at = 0;
  const auto counts = cache.runs(0, int(tokens.size())), sums = cache.runs(1, int(tokens.size()));
  ASSERT_EQ(counts.size(), sums.size());
  for (size_t i = 0; i < counts.size(); ++i) {
    float count = 0, sum = 0;
    for (int t = 0; t < counts[i].tokens; ++t) count += 1, sum += tokens[at++];
    const auto before = [](const std::optional<mx::array>& state) { return state ? *state : mx::zeros({1, 1}); };
    *counts[i].state = before(*counts[i].state) + mx::array(count);
    *sums[i].state = before(*sums[i].state) + mx::array(sum);
  }
  EXPECT_EQ(at, tokens.size());
  cache.advance(int(tokens.size()));
}

std::vector<float> held(const Cache& cache) {
  std::vector<float> numbers;
  for (auto array : cache.state()) numbers.push_back(array.item<float>());
  return numbers;
}

TEST(StateCache, replaces_its_arrays_and_counts_tokens) {
  StateCache cache(2);
  EXPECT_EQ(cache.offset(), 0);
  EXPECT_TRUE(cache.arrays().empty());
  EXPECT_EQ(cache.nbytes(), 0u);
  step(cache, {3, 4});
  EXPECT_EQ(cache.offset(), 2);
  EXPECT_EQ(held(cache), (std::vector<float>{2, 7}));
  EXPECT_EQ(cache.nbytes(), 8u);
  EXPECT_EQ(cache.trimmable(), 0);
  EXPECT_FALSE(cache.is_trimmable());
  EXPECT_EQ(cache.trim(1), 0);
  EXPECT_EQ(cache.offset(), 2);
  EXPECT_EQ(cache.draftable(), 1);
}

TEST(StateCache, takes_back_a_step_of_one_token) {
  StateCache cache(2);
  step(cache, {3, 4});
  step(cache, {5});
  EXPECT_EQ(cache.trimmable(), 1);
  EXPECT_EQ(cache.trim(0), 0);
  const auto copy = cache.copy();
  for (Cache* each : {static_cast<Cache*>(&cache), copy.get()}) {
    EXPECT_EQ(each->trim(2), 1);
    EXPECT_EQ(each->offset(), 2);
    EXPECT_EQ(held(*each), (std::vector<float>{2, 7}));
    EXPECT_EQ(each->trimmable(), 0) << "one step, and no more";
    EXPECT_EQ(each->trim(1), 0);
  }
  step(cache, {1});
  EXPECT_EQ(held(cache), (std::vector<float>{3, 8}));
  EXPECT_EQ(cache.trimmable(), 1);
  StateCache fresh(2);
  step(fresh, {9});
  EXPECT_EQ(fresh.trim(1), 1);
  EXPECT_TRUE(fresh.arrays().empty());
}

TEST(StateCache, copies_stay_what_they_were) {
  StateCache cache(2);
  step(cache, {1});
  const auto deep = cache.copy(), shallow = cache.shallow_copy();
  step(cache, {5, 5});
  EXPECT_EQ(held(*deep), (std::vector<float>{1, 1}));
  EXPECT_EQ(held(*shallow), (std::vector<float>{1, 1}));
  EXPECT_EQ(deep->offset(), 1);
  step(states(*deep), {2});
  EXPECT_EQ(held(*deep), (std::vector<float>{2, 3}));
  EXPECT_EQ(held(cache), (std::vector<float>{3, 11}));
}

std::unique_ptr<CacheList> pair() {
  KVCaches caches;
  caches.push_back(std::make_unique<StateCache>(2));
  caches.push_back(std::make_unique<GrowingKVCache>(mx::float32));
  return std::make_unique<CacheList>(std::move(caches));
}

TEST(CacheList, is_what_its_caches_are) {
  auto both = pair();
  step(states((*both)[0]), {3, 4});
  Feeder(kv((*both)[1])).add(2);
  EXPECT_EQ(both->offset(), 2);
  EXPECT_EQ(both->arrays().size(), 4u);
  EXPECT_EQ(both->trimmable(), 0);
  EXPECT_EQ(both->trim(2), 0);
  EXPECT_EQ(both->draftable(), 1);
  const auto copy = both->copy();
  step(states((*both)[0]), {1});
  EXPECT_EQ(held(list(*copy)[0]), (std::vector<float>{2, 7}));

  KVCaches rows;
  for (int i : {0, 1}) {
    rows.push_back(std::make_unique<GrowingKVCache>(mx::float32));
    Feeder(kv(*rows[i])).add(5);
  }
  CacheList attention(std::move(rows));
  EXPECT_TRUE(attention.is_trimmable());
  EXPECT_EQ(attention.trim(3), 3);
  EXPECT_EQ(attention[1].offset(), 2);
}

TEST(Batch, states_are_what_they_would_be_alone) {
  std::vector<KVCaches> together(3);
  std::vector<StateCache> alone(3, StateCache(2));
  for (auto& caches : together) {
    caches.push_back(std::make_unique<StateCache>(2));
    caches.push_back(pair());
  }
  for (const auto& tokens : {std::array{5, 3, 1}, {1, 1, 1}, {0, 9, 2}, {1, 0, 0}}) {
    std::vector<BatchMember> members;
    std::vector<float> all;
    for (int i = 0; i < 3; ++i) {
      if (tokens[i] == 0) continue;
      std::vector<float> own;
      for (int t = 0; t < tokens[i]; ++t) own.push_back(float(all.size() + t * t + i));
      members.push_back({&together[i], tokens[i]});
      all.insert(all.end(), own.begin(), own.end());
      step(alone[i], own);
    }
    auto caches = batched(members);
    step(states(*caches[0]), all);
    step(states(list(*caches[1])[0]), all);
    EXPECT_EQ(caches[0]->arrays().size(), 2 * members.size());
    const auto keys = numbered(1, int(all.size()), 1);
    EXPECT_EQ(kv(list(*caches[1])[1]).update(keys, keys, 0).size(), members.size());
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(held(*together[i][0]), held(alone[i]));
      EXPECT_EQ(held(list(*together[i][1])[0]), held(alone[i]));
      EXPECT_EQ(together[i][0]->offset(), alone[i].offset());
      EXPECT_EQ(together[i][1]->offset(), alone[i].offset());
    }
  }
}

TEST(SavedCache, states_and_lists_come_back) {
  auto both = pair();
  step(states((*both)[0]), {3, 4});
  Feeder(kv((*both)[1])).add(2);
  const auto file = saved(*both);
  EXPECT_EQ(file.kind, "CacheList");
  EXPECT_EQ(file.texts, (std::map<std::string, std::string>{{"0.1", "ArraysCache"}, {"1.1", "KVCache"}}));
  EXPECT_EQ(file.nothing, (std::set<std::string>{"0.0.1", "0.0.2"}));
  EXPECT_TRUE(file.arrays.contains("0.0.0.1") && file.arrays.contains("1.0.1"));
  EXPECT_EQ(file.numbers, (std::map<std::string, int>{{"1.0.2", 2}}));
  const auto back = restored(file, "here");
  EXPECT_EQ(held(list(*back)[0]), (std::vector<float>{2, 7}));
  EXPECT_EQ(back->offset(), 2);
  EXPECT_EQ(list(*back)[0].offset(), 0) << "its state does not say";
  back->assume_offset(2);
  EXPECT_EQ(list(*back)[0].offset(), 2);

  // One array may still be nothing.
  StateCache half(3);
  *half.runs(1, 1)[0].state = mx::ones({1, 2});
  const auto part = restored(saved(half), "here");
  EXPECT_FALSE(states(*part).states()[0]);
  EXPECT_TRUE(states(*part).states()[1]);
  EXPECT_EQ(states(*part).states().size(), 3u);
  EXPECT_THROW(saved(StateCache(2)), RequestError);
}

TEST(SavedCache, refuses_states_that_are_none) {
  StateCache cache(2);
  step(cache, {1});
  const auto good = saved(cache);
  const auto refused = [](SavedCache saved, const char* why) {
    try {
      restored(saved, "here");
      ADD_FAILURE() << why;
    } catch (const WeightError& error) {
      EXPECT_TRUE(std::string(error.what()).starts_with("[prompt cache] here: ")) << error.what();
    }
  };
  auto bad = good;
  bad.arrays.clear();
  refused(bad, "no arrays");
  bad = good;
  bad.arrays.at("0.0") = mx::array({1, 2});
  refused(bad, "whole numbers");
  bad = good;
  bad.arrays.emplace("0.3", mx::ones({1, 1}));
  refused(bad, "a gap");
  bad = good;
  bad.nothing.erase("2");
  bad.arrays.emplace("2", mx::ones({1, 1}));
  refused(bad, "lengths of a batch");
  bad = good;
  bad.numbers.emplace("3", 1);
  refused(bad, "a number");

  auto both = pair();
  step(states((*both)[0]), {1});
  Feeder(kv((*both)[1])).add(1);
  const auto good_list = saved(*both);
  auto bad_list = good_list;
  bad_list.texts["0.1"] = "CacheList";
  refused(bad_list, "a list in a list");
  bad_list = good_list;
  bad_list.texts.clear();
  refused(bad_list, "no kinds");
  bad_list = good_list;
  bad_list.texts.erase("1.1");
  refused(bad_list, "a cache without its kind");
  bad_list = good_list;
  bad_list.texts["1.1"] = "?";
  refused(bad_list, "another kind");
}

}  // namespace
}  // namespace mlx_lm::cache
