// One Linear's tensors into the order in which products read them, and its gradients back.
#pragma once

#include <algorithm>

#include "product.h"
#include "rows.h"
#include "transpose.h"

namespace clof {
inline namespace CLOF_ISA {

// Of a row-major (outputs, stride) matrix, `count` columns from `first` on.
struct Columns {
  const void* data;
  int64_t stride, first, count;
};

// For from * weight^T: inputs by outputs, the inputs from `row_first` and the outputs from `column` on, which is a
// whole number of registers.
template <class T> void pack_transposed(Storage storage, const Columns& from, int64_t outputs, const Packed<T>& to,
                                        int64_t row_first, int64_t column) {
  with_storage(storage, [&](auto example) {
    const auto* data = static_cast<const decltype(example)*>(from.data) + from.first;
    for (int64_t o = 0; o < outputs; o += kLanes<T>) {
      // A panel's columns: their rows are a panel's width apart.
      T* columns = to.data + to.offset(row_first, column + o);
      const int64_t stride = to.offset(1, column + o) - to.offset(0, column + o);
      transpose<T>(data + o * from.stride, from.stride, std::min(kLanes<T>, outputs - o), from.count, columns, stride);
    }
  });
}

// The first of the columns.
template <class T> void read_column(Storage storage, const Columns& from, int64_t outputs, T* to) {
  with_storage(storage, [&](auto example) {
    const auto* data = static_cast<const decltype(example)*>(from.data) + from.first;
    for (int64_t o = 0; o < outputs; ++o) to[o] = T(widen(data[o * from.stride]));
  });
}

// For from * weight: outputs by inputs, the outputs from `row` on.
template <class T>
void pack_rows(Storage storage, const Columns& from, int64_t outputs, const Packed<T>& to, int64_t row) {
  with_storage(storage, [&](auto example) {
    const auto* data = static_cast<const decltype(example)*>(from.data) + from.first;
    // A panel's part of a row is one piece of memory.
    for (int64_t first = 0; first < from.count; first += kPanel<T>) {
      const int64_t count = std::min<int64_t>(kPanel<T>, from.count - first);
      T* panel = to.data + to.offset(row, first);
      const int64_t stride = to.offset(1, first) - to.offset(0, first);
      for (int64_t o = 0; o < outputs; ++o) {
        for (int64_t i = 0; i < count; ++i) panel[o * stride + i] = T(widen(data[o * from.stride + first + i]));
      }
    }
  });
}

template <class T> void read_bias(Storage storage, const void* bias, int64_t outputs, T* to) {
  if (bias == nullptr) fill(to, outputs, T(0));
  else read_row(bias, storage, 0, outputs, to);
}

// Rows of sums, `inputs` by outputs, to columns of the gradient, outputs by inputs, from column `first` on.
template <class T> void write_transposed(Storage storage, const T* from, int64_t from_stride, int64_t inputs,
                                         int64_t outputs, void* to, int64_t to_stride, int64_t first) {
  with_storage(storage, [&](auto example) {
    transpose<T>(from, from_stride, inputs, outputs, static_cast<decltype(example)*>(to) + first, to_stride);
  });
}

// Adds pieces of memory of `bytes` each, one behind the other, to the first, in their order; a slice of the numbers.
template <class T> void sum_pieces(char* pieces, int64_t bytes, int64_t count, int64_t slice, int64_t slices) {
  const int64_t registers = bytes / int64_t(sizeof(Register<T>));
  const int64_t first = registers * slice / slices * kLanes<T>, last = registers * (slice + 1) / slices * kLanes<T>;
  T* sum = reinterpret_cast<T*>(pieces);
  for (int64_t piece = 1; piece < count; ++piece) {
    add_to(sum + first, reinterpret_cast<const T*>(pieces + piece * bytes) + first, last - first);
  }
}

}  // namespace CLOF_ISA
}  // namespace clof
