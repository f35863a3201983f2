// The steps that wait are nodes of a graph. A node's segment is the number of changes between our steps and MLX's on
// the longest way to it, so that our nodes of one segment can run together: whatever lies between two of them is ours.
#include "mlx_lm/ops/join.h"

#include <algorithm>
#include <map>
#include <unordered_map>
#include <unordered_set>

#include "mlx_lm/ops/backend.h"
#include "mlx_lm/ops/cpu_step.h"

namespace mlx_lm::ops {
namespace {

struct Node {
  std::vector<mx::array> outputs;
  std::shared_ptr<const CpuWork> work;  // null: one of MLX's operations
  int segment = 0;
};

// Whether x can be read by a step on the stream without MLX's help: it has been computed, or will have been by steps
// that were queued before. Such arrays are no inputs of the joined step: MLX copies the list of inputs for each output.
bool is_there(const mx::array& x) {
  if (waits(x) || !x.flags().row_contiguous) return false;
  return x.status() == mx::array::available || x.is_available() ||
         (x.event().valid() && x.event().stream() == mx::default_stream(mx::Device::cpu));
}

// All nodes that the arrays wait for, each after those that it waits for itself.
class Graph {
 public:
  explicit Graph(const std::vector<mx::array*>& roots) {
    for (const mx::array* root : roots) {
      if (waits(*root)) visit(*root);
    }
  }

  std::vector<Node> nodes;
  // The node of an array; null if it does not wait, or was joined.
  const Node* node_of(const mx::array& x) const {
    if (!waits(x)) return nullptr;
    const auto found = places_.find(x.primitive_id());
    return found == places_.end() ? nullptr : &nodes[found->second];
  }
  int segments() const { return segments_; }

 private:
  void visit(const mx::array& x) {
    if (places_.contains(x.primitive_id())) return;
    const auto* step = dynamic_cast<const CpuStep*>(&x.primitive());
    Node node{.outputs = x.outputs(), .work = step ? step->work() : nullptr};
    for (const auto& input : x.inputs()) {
      if (!waits(input)) continue;
      visit(input);
      const Node& before = *node_of(input);
      node.segment = std::max(node.segment, before.segment + (bool(before.work) != bool(node.work)));
    }
    segments_ = std::max(segments_, node.segment + 1);
    places_.emplace(x.primitive_id(), nodes.size());
    nodes.push_back(std::move(node));
  }

  std::unordered_map<std::uintptr_t, size_t> places_;
  int segments_ = 0;
};

// Memory for results that only later steps of the same segment read: used again after the last of them.
class Arena {
 public:
  void give(mx::array& out) {
    const auto found = free_.lower_bound(out.nbytes());
    if (found == free_.end()) {
      out.set_data(mx::allocator::malloc(out.nbytes()));
      owners_.push_back(out);
      own_.insert(out.data_shared_ptr().get());
      return;
    }
    // Strides and flags are those of a fresh array of this shape.
    const mx::array owner = found->second;
    free_.erase(found);
    mx::Strides strides(out.ndim(), 1);
    for (int i = int(out.ndim()) - 2; i >= 0; --i) strides[i] = strides[i + 1] * out.shape(i + 1);
    out.copy_shared_buffer(owner, strides, {.contiguous = true, .row_contiguous = true, .col_contiguous = false},
                           out.size());
  }
  // A step that writes in place gave its output other memory, a cache's: that is not ours to use again.
  void take_back(const mx::array& out) {
    if (own_.contains(out.data_shared_ptr().get())) free_.emplace(out.nbytes(), out);
  }
  std::vector<mx::array> owners() && { return std::move(owners_); }

 private:
  std::multimap<size_t, mx::array> free_;
  std::vector<mx::array> owners_;
  std::unordered_set<const void*> own_;  // what was allocated here
};

// The joined step. Its arrays are numbered: first the inputs, then those that were there before, then the outputs, then
// what lies between.
struct Joined {
  static constexpr const char* kName = "Joined";
  struct Step {
    std::shared_ptr<const CpuWork> work;
    std::vector<int> inputs, outputs;
    std::vector<int> last_uses;  // arrays between that nothing reads afterwards
  };
  std::vector<Step> steps;
  std::vector<mx::array> before;
  std::vector<std::pair<mx::Shape, mx::Dtype>> between;

  std::function<void()> operator()(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) const {
    std::vector<mx::array> arrays(inputs);
    arrays.insert(arrays.end(), before.begin(), before.end());
    arrays.insert(arrays.end(), outputs.begin(), outputs.end());
    const int between_begin = int(arrays.size());
    for (const auto& [shape, dtype] : between) arrays.emplace_back(shape, dtype, nullptr, std::vector<mx::array>{});
    Arena arena;
    std::vector<std::function<void()>> tasks;
    tasks.reserve(steps.size());
    std::vector<mx::array> in, out;
    for (const Step& step : steps) {
      in.clear(), out.clear();
      for (int i : step.inputs) in.push_back(arrays[i]);
      for (int i : step.outputs) {
        if (i >= between_begin && !step.work->in_place()) arena.give(arrays[i]);
        out.push_back(arrays[i]);
      }
      tasks.push_back(step.work->prepare(in, out));
      for (int i : step.last_uses) arena.take_back(arrays[i]);
    }
    return [tasks = std::move(tasks), before = before, between = std::move(arena).owners()] {
      for (const auto& task : tasks) task();
    };
  }
};

class Joiner {
 public:
  Joiner(const std::vector<mx::array*>& roots) : roots_(roots), graph_(roots) {
    for (int segment = 0; segment < graph_.segments(); ++segment) join(segment);
  }

 private:
  bool inside(const mx::array& x, int segment) const {
    const Node* node = graph_.node_of(x);
    return node && node->work && node->segment == segment;
  }

  void join(int segment) {
    std::vector<const Node*> members;
    std::vector<mx::array*> readers;  // outside: roots, and inputs of other nodes
    for (Node& node : graph_.nodes) {
      if (node.work && node.segment == segment) {
        members.push_back(&node);
        continue;
      }
      for (auto& output : node.outputs) {
        for (auto& input : output.inputs()) {
          if (inside(input, segment)) readers.push_back(&input);
        }
      }
    }
    if (members.size() < 2) return;
    for (mx::array* root : roots_) {
      if (inside(*root, segment)) readers.push_back(root);
    }

    Joined work;
    std::unordered_map<std::uintptr_t, int> numbers;  // of arrays, by id
    const auto number = [&](const mx::array& x) { return numbers.emplace(x.id(), int(numbers.size())).second; };
    std::vector<mx::array> inputs, outputs;
    for (const bool there : {false, true}) {
      for (const Node* node : members) {
        for (const auto& input : node->outputs[0].inputs()) {
          if (inside(input, segment) || is_there(input) != there) continue;
          if (number(input)) (there ? work.before : inputs).push_back(input);
        }
      }
    }
    for (const mx::array* reader : readers) {
      if (number(*reader)) outputs.push_back(*reader);
    }
    const int outputs_begin = int(inputs.size() + work.before.size()), between_begin = int(numbers.size());

    std::vector<int> last_user;  // of each array between: a step
    for (const Node* node : members) {
      const int me = int(work.steps.size());
      Joined::Step step;
      step.work = node->work;
      for (const auto& input : node->outputs[0].inputs()) {
        step.inputs.push_back(numbers.at(input.id()));
        if (const int i = step.inputs.back() - between_begin; i >= 0) last_user[i] = me;
      }
      for (const auto& output : node->outputs) {
        if (number(output)) {
          work.between.emplace_back(output.shape(), output.dtype());
          last_user.push_back(me);
        }
        step.outputs.push_back(numbers.at(output.id()));
      }
      work.steps.push_back(std::move(step));
    }
    for (size_t i = 0; i < last_user.size(); ++i) {
      work.steps[last_user[i]].last_uses.push_back(between_begin + int(i));
    }

    std::vector<mx::Shape> shapes;
    std::vector<mx::Dtype> dtypes;
    for (const auto& output : outputs) {
      shapes.push_back(output.shape());
      dtypes.push_back(output.dtype());
    }
    const auto joined = cpu_step(std::move(shapes), dtypes, std::move(inputs), std::move(work));
    for (mx::array* reader : readers) *reader = joined[numbers.at(reader->id()) - outputs_begin];
  }

  const std::vector<mx::array*>& roots_;
  Graph graph_;
};

}  // namespace

void join(const std::vector<mx::array*>& arrays) {
  if (backend() == Backend::kernels) Joiner{arrays};
}

}  // namespace mlx_lm::ops
