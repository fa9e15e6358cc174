// Host side of mlp and its backward pass on the CPU.
#include "chunked.h"

namespace clof::host {
namespace {

using torch::stable::empty_like;

// The arguments of a call, checked, and held for as long as their pointers are used.
struct Call {
  std::vector<Tensor> inputs, weights;
  MlpArguments a = {};
  Workshop workshop;

  Call(const std::vector<Tensor>& inputs_, const std::vector<Tensor>& weights_, const std::string& activation,
       bool activate_last) {
    take_inputs(inputs_);
    take_weights(weights_);
    a.activation = activation_of(activation);
    a.activate_last = activate_last;
    a.chunks = num_chunks(a.rows);
  }

  void take_inputs(const std::vector<Tensor>& given) {
    if (given.empty() || given.size() > kMaxMlpInputs) {
      check::fail("inputs must be 1 to ", kMaxMlpInputs, " tensors; got ", given.size(), ".");
    }
    check::shape(given[0], {check::any, check::any}, "inputs[0]");
    a.storage = storage_of(given[0], "inputs[0]");
    a.dtype = a.storage == Storage::float64 ? Storage::float64 : Storage::float32;
    a.rows = given[0].size(0);
    inputs.reserve(given.size());
    for (const Tensor& input : given) {
      inputs.push_back(checked_shape(input, given[0], {a.rows, check::any}, "each input", "the first"));
      const int k = a.num_inputs++;
      a.inputs[k] = data(inputs[k]);
      a.input_columns[k] = input.size(1);
      a.columns[0] += input.size(1);
    }
  }

  void take_weights(const std::vector<Tensor>& given) {
    if (given.empty() || given.size() % 2 || given.size() > 2 * kMaxMlpLinears) {
      check::fail("weights must be the weight and bias of 1 to ", kMaxMlpLinears, " Linears; got ", given.size(),
                  " tensors.");
    }
    weights.reserve(given.size());
    for (size_t k = 0; k < given.size(); k += 2) {
      const int64_t inputs_of = a.columns[a.num_linears], outputs = given[k].dim() == 2 ? given[k].size(0) : 0;
      weights.push_back(checked_shape(given[k], inputs[0], {outputs, inputs_of}, "a weight", "inputs"));
      weights.push_back(checked_shape(given[k + 1], inputs[0], {outputs}, "a bias", "inputs"));
      a.linears[a.num_linears] = {data(weights[k]), data(weights[k + 1]), nullptr, nullptr};
      a.columns[++a.num_linears] = outputs;
    }
  }

  // Memory for the work; call when everything else in `a` is set.
  void allocate() {
    const MlpMemory bytes = cpu::kernels().mlp_memory(a);
    workshop = Workshop(inputs[0], bytes.shared, bytes.worker, a.chunks);
    a.shared = workshop.shared();
    a.workers = workshop.workers();
  }

  auto work(MlpStage stage) const {
    return [this, stage](int64_t item, int64_t worker) { cpu::kernels().mlp(a, stage, item, worker); };
  }

  void run(MlpStage stage, int64_t items) const { workshop.run(items, work(stage)); }
};

Tensor mlp(const std::vector<Tensor>& inputs, const std::vector<Tensor>& weights, const std::string& activation,
           bool activate_last) {
  Call call(inputs, weights, activation, activate_last);
  Tensor out = empty(call.inputs[0], {call.a.rows, call.a.columns[call.a.num_linears]});
  call.a.out = out.data_ptr();
  call.allocate();
  call.run(MlpStage::pack, 1);
  call.run(MlpStage::forward, call.a.chunks);
  return out;
}

std::tuple<std::vector<Tensor>, std::vector<Tensor>> mlp_backward(const Tensor& grad_,
                                                                  const std::vector<Tensor>& inputs,
                                                                  const std::vector<Tensor>& weights,
                                                                  const std::string& activation, bool activate_last,
                                                                  bool input_gradients) {
  Call call(inputs, weights, activation, activate_last);
  MlpArguments& a = call.a;
  const Tensor grad = checked_shape(grad_, call.inputs[0], {a.rows, a.columns[a.num_linears]}, "grad", "inputs");
  a.backward = true;
  a.grad_out = data(grad);
  std::vector<Tensor> grad_inputs, grad_weights;
  for (int k = 0; input_gradients && k < a.num_inputs; ++k) {
    grad_inputs.push_back(empty_like(call.inputs[k]));
    a.grad_inputs[k] = grad_inputs[k].data_ptr();
  }
  for (const Tensor& weight : call.weights) grad_weights.push_back(empty_like(weight));
  for (int k = 0; k < a.num_linears; ++k) {
    a.linears[k].grad_weight = grad_weights[2 * k].data_ptr();
    a.linears[k].grad_bias = grad_weights[2 * k + 1].data_ptr();
  }
  call.allocate();
  call.run(MlpStage::pack, 1);
  const int64_t groups = sum_groups(a.chunks);
  call.run(MlpStage::clear_sums, groups);
  call.workshop.run_in_turns(a.chunks, groups, call.work(MlpStage::backward), call.work(MlpStage::add_sums));
  call.run(MlpStage::sum_weights, kMlpSlices);
  call.run(MlpStage::grad_weights, 1);
  return {grad_inputs, grad_weights};
}

}  // namespace
}  // namespace clof::host

STABLE_TORCH_LIBRARY_IMPL(clof_ext, CPU, library) {
  library.impl("mlp", TORCH_BOX(&clof::host::mlp));
  library.impl("mlp_backward", TORCH_BOX(&clof::host::mlp_backward));
}
