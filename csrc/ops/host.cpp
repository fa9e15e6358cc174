#include "host.h"

#include <algorithm>

namespace clof {

FrameMode frame_mode(const std::string& mode) {
  if (mode == "soft") return FrameMode::soft;
  if (mode == "raw") return FrameMode::raw;
  if (mode == "orthonormal") return FrameMode::orthonormal;
  check::not_one_of(mode, "'soft', 'raw', 'orthonormal'", "mode");
}

Activation activation_of(const std::string& name) {
  if (name == "silu") return Activation::silu;
  if (name == "relu") return Activation::relu;
  if (name == "leaky_relu") return Activation::leaky_relu;
  if (name == "softplus") return Activation::softplus;
  if (name == "tanh") return Activation::tanh;
  if (name == "gelu") return Activation::gelu;
  check::not_one_of(name, "'silu', 'relu', 'leaky_relu', 'softplus', 'tanh', 'gelu'", "activation");
}

MatmulPrecision precision_of(const std::string& name) {
  if (name == "highest") return MatmulPrecision::highest;
  if (name == "high") return MatmulPrecision::high;
  if (name == "medium") return MatmulPrecision::medium;
  check::not_one_of(name, "'highest', 'high', 'medium'", "precision");
}

Storage storage_of(const Tensor& tensor, const char* name) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float: return Storage::float32;
    case ScalarType::Double: return Storage::float64;
    case ScalarType::BFloat16: return Storage::bfloat16;
    case ScalarType::Half: return Storage::float16;
    default: check::wrong_dtype(tensor, "float32, float64, bfloat16 or float16", name);
  }
}

namespace {

void check_code(AOTITorchError code) { STABLE_TORCH_ERROR_CODE_CHECK(code); }

// Strides of a dense tensor.
std::vector<int64_t> dense_strides(torch::headeronly::IntHeaderOnlyArrayRef sizes) {
  std::vector<int64_t> strides(sizes.size());
  int64_t stride = 1;
  for (size_t axis = sizes.size(); axis-- > 0;) {
    strides[axis] = stride;
    stride *= std::max<int64_t>(sizes[axis], 1);
  }
  return strides;
}

}  // namespace

Tensor empty(const Tensor& like, torch::headeronly::IntHeaderOnlyArrayRef sizes, std::optional<ScalarType> dtype) {
  int32_t type, device, index;
  if (dtype.has_value()) {
    type = torch::stable::detail::to<int32_t>(torch::stable::detail::from(*dtype));
  } else {
    check_code(aoti_torch_get_dtype(like.get(), &type));
  }
  check_code(aoti_torch_get_device_type(like.get(), &device));
  check_code(aoti_torch_get_device_index(like.get(), &index));
  const std::vector<int64_t> strides = dense_strides(sizes);
  AtenTensorHandle made;
  check_code(aoti_torch_empty_strided(int64_t(sizes.size()), sizes.data(), strides.data(), type, device, index, &made));
  return Tensor(made);
}

Tensor part(const Tensor& memory, int64_t first, torch::headeronly::IntHeaderOnlyArrayRef sizes) {
  const std::vector<int64_t> strides = dense_strides(sizes);
  AtenTensorHandle made;
  check_code(
      aoti_torch__reinterpret_tensor(memory.get(), int64_t(sizes.size()), sizes.data(), strides.data(), first, &made));
  return Tensor(made);
}

Tensor checked_positions(const Tensor& pos, const char* name) {
  check::shape(pos, {check::any, 3}, name);
  if (pos.scalar_type() != ScalarType::Float && pos.scalar_type() != ScalarType::Double) {
    check::wrong_dtype(pos, "float32 or float64", name);
  }
  return dense(pos);
}

Tensor checked_like(const Tensor& tensor, const Tensor& like, const char* name, const char* other) {
  check::same_shape(tensor, like, name, other);
  check::dtype(tensor, like.scalar_type(), name);
  check::same_device(tensor, like, name, other);
  return dense(tensor);
}

Tensor checked_shape(const Tensor& tensor, const Tensor& like, std::initializer_list<int64_t> sizes, const char* name,
                     const char* other) {
  check::shape(tensor, sizes, name);
  check::dtype(tensor, like.scalar_type(), name);
  check::same_device(tensor, like, name, other);
  return dense(tensor);
}

void check_end(int64_t end, int64_t count) {
  if (end != count) {
    check::fail("offsets must be those of the same plan as the edges and end with ", count, "; got ", end, ".");
  }
}

Plan::Plan(const Tensor& edges_, const Tensor& offsets_, const Tensor& pos, Offsets use) {
  check::shape(edges_, {4, check::any}, "edges");
  check::shape(offsets_, {3, pos.size(0) + 1}, "offsets");
  check::dtype(edges_, ScalarType::Int, "edges");
  check::dtype(offsets_, ScalarType::Int, "offsets");
  check::same_device(edges_, pos, "edges", "pos");
  check::same_device(offsets_, pos, "offsets", "pos");
  edges = dense(edges_);
  offsets = dense(offsets_);
  const int64_t num_edges = edges.size(1), num_nodes = pos.size(0);
  const auto* e = static_cast<const int32_t*>(data(edges));
  const auto* o = static_cast<const int32_t*>(data(offsets));
  graph = {e, e + num_edges, e + 2 * num_edges, e + 3 * num_edges, o, o + num_nodes + 1, num_nodes, num_edges};
  crossings = o + 2 * (num_nodes + 1);
  if (use == Offsets::unread || pos.is_cuda()) return;
  check_end(graph.receiver_start[num_nodes], num_edges);
  check_end(graph.sender_start[num_nodes], num_edges);
}

}  // namespace clof
