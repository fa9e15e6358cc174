// Named checks of an operator's arguments; the only place in C++ that words an error.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <initializer_list>
#include <sstream>
#include <stdexcept>
#include <string>

// Throws where a function of torch's C interface fails; torch 2.11 has it under its older name alone.
#ifndef STABLE_TORCH_ERROR_CODE_CHECK
#define STABLE_TORCH_ERROR_CODE_CHECK TORCH_ERROR_CODE_CHECK
#endif

namespace clof::check {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// A size that may be anything.
constexpr int64_t any = -1;

template <class... Parts> [[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw std::runtime_error(text.str());
}

inline std::string sizes_text(const int64_t* sizes, size_t count) {
  std::ostringstream text;
  text << "(";
  for (size_t axis = 0; axis < count; ++axis) {
    if (axis) text << ", ";
    if (sizes[axis] == any) text << "any";
    else text << sizes[axis];
  }
  text << ")";
  return text.str();
}

inline void shape(const Tensor& tensor, std::initializer_list<int64_t> expected, const char* name) {
  const auto sizes = tensor.sizes();
  bool fits = sizes.size() == expected.size();
  size_t axis = 0;
  for (int64_t size : expected) {
    fits = fits && (size == any || sizes[axis] == size);
    ++axis;
  }
  if (!fits) {
    fail(name, " must have shape ", sizes_text(expected.begin(), expected.size()), "; got ",
         sizes_text(sizes.data(), sizes.size()), ".");
  }
}

// A tensor of `rows` tensors with any number of channels and `order` axes of size 3.
inline void tensors_of_order(const Tensor& tensor, int64_t rows, int64_t order, const char* name) {
  const auto sizes = tensor.sizes();
  bool fits = int64_t(sizes.size()) == 2 + order && sizes[0] == rows;
  for (int64_t axis = 0; fits && axis < order; ++axis) fits = sizes[2 + axis] == 3;
  if (!fits) {
    fail(name, " must have shape (", rows, ", channels) and then ", order, " axes of size 3; got ",
         sizes_text(sizes.data(), sizes.size()), ".");
  }
}

inline void same_shape(const Tensor& tensor, const Tensor& like, const char* name, const char* other) {
  const auto sizes = tensor.sizes(), expected = like.sizes();
  bool fits = sizes.size() == expected.size();
  for (size_t axis = 0; fits && axis < sizes.size(); ++axis) fits = sizes[axis] == expected[axis];
  if (!fits) {
    fail(name, " must have the shape of ", other, ", ", sizes_text(expected.data(), expected.size()), "; got ",
         sizes_text(sizes.data(), sizes.size()), ".");
  }
}

inline const char* dtype_text(ScalarType type) {
  switch (type) {
    case ScalarType::Float: return "float32";
    case ScalarType::Double: return "float64";
    case ScalarType::BFloat16: return "bfloat16";
    case ScalarType::Half: return "float16";
    case ScalarType::Int: return "int32";
    case ScalarType::Long: return "int64";
    default: return "another dtype";
  }
}

inline void dtype(const Tensor& tensor, ScalarType expected, const char* name) {
  if (tensor.scalar_type() != expected) {
    fail(name, " must be ", dtype_text(expected), "; got ", dtype_text(tensor.scalar_type()), ".");
  }
}

inline void same_device(const Tensor& tensor, const Tensor& like, const char* name, const char* other) {
  if (tensor.is_cuda() != like.is_cuda() || tensor.get_device_index() != like.get_device_index()) {
    fail(name, " must be on the device of ", other, "; it is not.");
  }
}

[[noreturn]] inline void not_one_of(const std::string& value, const char* choices, const char* name) {
  fail(name, " must be one of ", choices, "; got '", value, "'.");
}

[[noreturn]] inline void wrong_dtype(const Tensor& tensor, const char* expected, const char* name) {
  fail(name, " must be ", expected, "; got ", dtype_text(tensor.scalar_type()), ".");
}

inline void order(int64_t value) {
  if (value < 0 || value > 3) fail("order must be one of 0, 1, 2, 3; got ", value, ".");
}

inline void num_edges(int64_t edges) {
  if (edges > INT32_MAX) fail("edge_index must have at most ", INT32_MAX, " edges; got ", edges, ".");
}

[[noreturn]] inline void index_out_of_range(const std::string& name, int64_t value, int64_t count) {
  fail(name, " must hold numbers from 0 to ", count - 1, "; got ", value, ".");
}

}  // namespace clof::check
