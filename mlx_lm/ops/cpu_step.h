// A step of MLX's graph that our kernels compute on the CPU's stream.
#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include <mlx/mlx.h>
#include <mlx/primitives.h>

namespace mlx_lm::ops {
namespace mx = mlx::core;

// What a step does, known before its inputs have been computed.
class CpuWork {
 public:
  using Arrays = std::vector<mx::array>;
  virtual ~CpuWork() = default;
  virtual const char* name() const = 0;
  // Whether its outputs take the memory of inputs.
  virtual bool in_place() const = 0;
  // Called while the graph is walked: gives the outputs their memory, where they have none yet, and returns the task,
  // which runs later on the stream's thread and holds raw pointers, and owners of what is not an input.
  virtual std::function<void()> prepare(const Arrays& inputs, Arrays& outputs) const = 0;
};

// A Work is a plain struct with a name, kName, CpuWork's prepare() as its operator(), and kInPlace, if it is true.
template <class Work>
struct CpuWorkOf final : CpuWork {
  explicit CpuWorkOf(Work w) : work(std::move(w)) {}
  const char* name() const override { return Work::kName; }
  bool in_place() const override {
    return requires { Work::kInPlace; };
  }
  std::function<void()> prepare(const Arrays& inputs, Arrays& outputs) const override { return work(inputs, outputs); }

  const Work work;
};

// Measured: 1.65 us all told, about half of a stock op.
class CpuStep final : public mx::Primitive {
 public:
  CpuStep(mx::Stream stream, std::shared_ptr<const CpuWork> work) : Primitive(stream), work_(std::move(work)) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override;
  void eval_gpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override;
  const char* name() const override { return work_->name(); }
  const std::shared_ptr<const CpuWork>& work() const { return work_; }

 private:
  std::shared_ptr<const CpuWork> work_;
};

// Gives a fresh array memory, unless somebody did.
inline void allocate(mx::array& out) {
  if (!out.data_shared_ptr()) out.set_data(mx::allocator::malloc(out.nbytes()));
}

// A step with several outputs.
std::vector<mx::array> cpu_step(std::vector<mx::Shape> shapes, const std::vector<mx::Dtype>& dtypes,
                                std::vector<mx::array> inputs, std::shared_ptr<const CpuWork> work);

template <class Work>
std::vector<mx::array> cpu_step(std::vector<mx::Shape> shapes, const std::vector<mx::Dtype>& dtypes,
                                std::vector<mx::array> inputs, Work work) {
  return cpu_step(std::move(shapes), dtypes, std::move(inputs),
                  std::shared_ptr<const CpuWork>(std::make_shared<CpuWorkOf<Work>>(std::move(work))));
}

// A step with one output, float32.
template <class Work>
mx::array cpu_step(mx::Shape shape, std::vector<mx::array> inputs, Work work) {
  auto step = std::make_shared<CpuStep>(mx::default_stream(mx::Device::cpu),
                                        std::make_shared<CpuWorkOf<Work>>(std::move(work)));
  return mx::array(std::move(shape), mx::float32, std::move(step), std::move(inputs));
}

// Whether x is the result of a step that has not begun.
inline bool waits(const mx::array& x) { return x.status() == mx::array::unscheduled && x.has_primitive(); }

// The work that x waits for, if it is such a Work: then a later step can do it as well, from x.inputs(), and x itself
// is never asked for. Null otherwise.
template <class Work>
const Work* pending(const mx::array& x) {
  if (!waits(x)) return nullptr;
  const auto* step = dynamic_cast<const CpuStep*>(&x.primitive());
  const auto* work = step ? dynamic_cast<const CpuWorkOf<Work>*>(step->work().get()) : nullptr;
  return work ? &work->work : nullptr;
}

// The same numbers in the same order, before any reshape that is still to be computed: our kernels do not look at
// shapes, and so spare MLX a step.
inline const mx::array& unshaped(const mx::array& x) {
  const bool reshape = waits(x) && std::string_view(x.primitive().name()) == "Reshape";  // its type is not exported
  return reshape ? unshaped(x.inputs()[0]) : x;
}

inline mx::array as_float32(const mx::array& x) { return x.dtype() == mx::float32 ? x : mx::astype(x, mx::float32); }

}  // namespace mlx_lm::ops
