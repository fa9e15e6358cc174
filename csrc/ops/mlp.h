// The arguments of mlp, checked; for the host sides of all devices.
#pragma once

#include "host.h"

namespace clof::host {

// The arguments of a call, checked, and held for as long as their pointers are used.
template <class Problem> struct MlpCall {
  std::vector<Tensor> inputs, weights;
  Problem a = {};

  MlpCall(const std::vector<Tensor>& inputs_, const std::vector<Tensor>& weights_, const std::string& activation,
          bool activate_last, const std::string& precision) {
    take_inputs(inputs_);
    take_weights(weights_);
    a.activation = activation_of(activation);
    a.activate_last = activate_last;
    a.precision = precision_of(precision);
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

  Tensor make_output() {
    Tensor out = empty(inputs[0], {a.rows, a.columns[a.num_linears]});
    a.out = out.data_ptr();
    return out;
  }

  void take_output(const Tensor& out) {
    check::shape(out, {a.rows, a.columns[a.num_linears]}, "out");
    check::dtype(out, inputs[0].scalar_type(), "out");
    check::same_device(out, inputs[0], "out", "inputs");
    if (!out.is_contiguous() || !is_aligned(out)) {
      check::fail("out must be dense and begin at a multiple of 16 bytes.");
    }
    a.out = out.data_ptr();
  }
};

// The tensors of a backward pass: the cotangent, checked, and results. All outlive the pointers in `a`.
struct MlpGradients {
  Tensor grad;
  std::vector<Tensor> grad_inputs, grad_weights;

  template <class Problem> MlpGradients(MlpCall<Problem>& call, const Tensor& grad_, bool input_gradients) {
    Problem& a = call.a;
    grad = checked_shape(grad_, call.inputs[0], {a.rows, a.columns[a.num_linears]}, "grad", "inputs");
    a.grad_out = data(grad);
    a.input_gradients = input_gradients;
    for (int k = 0; input_gradients && k < a.num_inputs; ++k) {
      grad_inputs.push_back(empty(call.inputs[k]));
      a.grad_inputs[k] = grad_inputs[k].data_ptr();
    }
    for (const Tensor& weight : call.weights) grad_weights.push_back(empty(weight));
    for (int k = 0; k < a.num_linears; ++k) {
      a.linears[k].grad_weight = grad_weights[2 * k].data_ptr();
      a.linears[k].grad_bias = grad_weights[2 * k + 1].data_ptr();
    }
  }

  std::tuple<std::vector<Tensor>, std::vector<Tensor>> results() const { return {grad_inputs, grad_weights}; }
};

}  // namespace clof::host
