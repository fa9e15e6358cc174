// The arguments of frame_message, checked; for the host sides of all devices.
#pragma once

#include "host.h"

namespace clof::host {

using OptionalTensor = std::optional<Tensor>;

inline int axes_of(const std::string& basis) {
  if (basis == "complete") return 3;
  if (basis == "radial") return 1;
  check::not_one_of(basis, "'complete', 'radial'", "basis");
}

inline bool is_mean(const std::string& reduce, const char* name) {
  if (reduce == "sum" || reduce == "mean") return reduce == "mean";
  check::not_one_of(reduce, "'sum', 'mean'", name);
}

inline void check_depth(int64_t depth, int64_t most, const char* name) {
  if (depth < 1 || depth > most) check::fail(name, " must be from 1 to ", most, "; got ", depth, ".");
}

// The arguments of a call, checked, and held for as long as their pointers are used.
template <class Problem> struct FrameMessageCall {
  Tensor h, pos;
  OptionalTensor edge_attr, edge_weight;
  std::vector<Tensor> weights;
  Plan plan;
  Problem a = {};

  FrameMessageCall(const Tensor& h_, const Tensor& pos_, const OptionalTensor& edge_attr_,
                   const OptionalTensor& edge_weight_, const std::vector<Tensor>& weights_, const Tensor& edges,
                   const Tensor& offsets, int64_t edge_depth, int64_t coord_depth, bool attention,
                   const std::string& basis, const std::string& mode, const std::string& activation, bool tanh,
                   double clamp, const std::string& message_reduce, const std::string& vector_reduce,
                   const std::string& precision)
      : pos(checked_positions(pos_, "pos")), plan(edges, offsets, pos) {
    a.graph = plan.graph;
    a.dtype = storage_of(pos, "pos");
    a.storage = storage_of(h_, "h");
    if ((a.dtype == Storage::float64) != (a.storage == Storage::float64)) {
      check::wrong_dtype(h_, "float64 where pos is, else float32, bfloat16 or float16", "h");
    }
    check::shape(h_, {a.graph.num_nodes, check::any}, "h");
    check::same_device(h_, pos, "h", "pos");
    h = dense(h_);
    a.h = data(h);
    a.pos = data(pos);
    a.node_features = h.size(1);
    if (edge_attr_.has_value()) {
      edge_attr = checked_shape(*edge_attr_, h, {a.graph.num_edges, check::any}, "edge_attr", "h");
      a.edge_attr = data(edge_attr);
      a.edge_features = edge_attr->size(1);
    }
    if (edge_weight_.has_value()) {
      edge_weight = checked_shape(*edge_weight_, h, {a.graph.num_edges}, "edge_weight", "h");
      a.edge_weight = data(edge_weight);
    }
    a.precision = precision_of(precision);
    a.mode = frame_mode(mode);
    a.activation = activation_of(activation);
    a.num_axes = axes_of(basis);
    a.tanh = tanh;
    if (!(clamp > 0)) check::fail("clamp must be above 0; got ", clamp, ".");
    a.clamp = clamp;
    a.message_mean = is_mean(message_reduce, "message_reduce");
    a.vector_mean = is_mean(vector_reduce, "vector_reduce");
    take_weights(weights_, edge_depth, coord_depth, attention);
  }

  void take_weights(const std::vector<Tensor>& given, int64_t edge_depth, int64_t coord_depth, bool attention) {
    check_depth(edge_depth, kMaxEdgeLinears, "edge_depth");
    check_depth(coord_depth, kMaxCoordLinears, "coord_depth");
    const size_t most = 2 * size_t(edge_depth + coord_depth + attention);
    if (given.size() != most && given.size() + 1 != most) {
      check::fail("weights must hold ", most, " tensors, or one less; got ", given.size(), ".");
    }
    a.num_edge_linears = int(edge_depth);
    a.num_coord_linears = int(coord_depth);
    weights.reserve(given.size());
    const auto outputs_of = [&](size_t weight) { return given[weight].dim() == 2 ? given[weight].size(0) : 0; };
    a.first = outputs_of(0);
    a.hidden = edge_depth == 1 ? a.first : outputs_of(2);
    a.coord_hidden = coord_depth == 1 ? a.hidden : outputs_of(2 * size_t(edge_depth + attention));
    a.edge_mlp[0] = next(given, a.first, 2 * a.node_features + 1 + a.edge_features);
    for (int k = 1; k < edge_depth; ++k) a.edge_mlp[k] = next(given, a.hidden, k == 1 ? a.first : a.hidden);
    if (attention) a.att_mlp = next(given, 1, a.hidden);
    if (coord_depth == 2) a.coord_mlp[0] = next(given, a.coord_hidden, a.hidden);
    a.coord_mlp[coord_depth - 1] = next(given, a.num_axes, a.coord_hidden);
  }

  // The next weight and, where there is one, bias.
  LinearArguments next(const std::vector<Tensor>& given, int64_t outputs, int64_t inputs) {
    const auto take = [&](std::initializer_list<int64_t> sizes) {
      weights.push_back(checked_shape(given[weights.size()], h, sizes, "a tensor of weights", "h"));
      return data(weights.back());
    };
    LinearArguments linear = {};
    linear.weight = take({outputs, inputs});
    if (weights.size() < given.size()) linear.bias = take({outputs});
    return linear;
  }

  // A gradient for each of `weights`, which become the arguments' too.
  std::vector<Tensor> weight_gradients() {
    std::vector<Tensor> grads;
    const auto take = [&](const void* of) -> void* {
      if (of == nullptr) return nullptr;
      grads.push_back(empty(weights[grads.size()]));
      return grads.back().data_ptr();
    };
    const auto both = [&](LinearArguments& linear) {
      linear.grad_weight = take(linear.weight);
      linear.grad_bias = take(linear.bias);
    };
    for (LinearArguments& linear : a.edge_mlp) both(linear);
    both(a.att_mlp);
    for (LinearArguments& linear : a.coord_mlp) both(linear);
    return grads;
  }
};

// The tensors of a backward pass: cotangents, checked, and results. All outlive the pointers in `a`.
struct FrameMessageGradients {
  Tensor grad_message, grad_vector, grad_h, grad_pos, grad_edge_attr, grad_edge_weight;
  std::vector<Tensor> grad_weights;

  template <class Problem>
  FrameMessageGradients(FrameMessageCall<Problem>& call, const Tensor& grad_message_, const Tensor& grad_vector_) {
    Problem& a = call.a;
    grad_message = checked_shape(grad_message_, call.h, {a.graph.num_nodes, a.hidden}, "grad_message", "h");
    grad_vector = checked_like(grad_vector_, call.pos, "grad_vector", "pos");
    grad_pos = empty(call.pos);
    grad_edge_attr = call.edge_attr.has_value() ? empty(*call.edge_attr) : empty(call.h, {0, 0});
    grad_edge_weight = call.edge_weight.has_value() ? empty(*call.edge_weight) : empty(call.h, {0});
    a.grad_message = data(grad_message);
    a.grad_vector = data(grad_vector);
    a.grad_pos = grad_pos.data_ptr();
    a.grad_edge_attr = call.edge_attr.has_value() ? grad_edge_attr.data_ptr() : nullptr;
    a.grad_edge_weight = call.edge_weight.has_value() ? grad_edge_weight.data_ptr() : nullptr;
    grad_weights = call.weight_gradients();
  }

  std::tuple<Tensor, Tensor, Tensor, Tensor, std::vector<Tensor>> results() const {
    return {grad_h, grad_pos, grad_edge_attr, grad_edge_weight, grad_weights};
  }
};

// The inputs of both operators, as arguments of a function.
template <template <class...> class Operators> using WithFrameMessageInputs =
    Operators<const Tensor&, const Tensor&, const OptionalTensor&, const OptionalTensor&, const std::vector<Tensor>&,
              const Tensor&, const Tensor&, int64_t, int64_t, bool, const Text&, const Text&, const Text&, bool, double,
              const Text&, const Text&, const Text&>;

}  // namespace clof::host
