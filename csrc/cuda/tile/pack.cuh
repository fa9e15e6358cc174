// Makes the image of weights from the tensors of a call.
#pragma once

#include "image.h"
#include "product.cuh"

namespace clof::cuda {

// A block of a weight (results, inputs) whose rows are `leading` numbers apart.
struct PackedMatrix {
  const void* weight;
  int64_t leading;
  int results, inputs;
  bool transposed;
  Matrix place;
};

// `count` numbers, `stride` apart, to a vector of the image padded to `padded` numbers; zeros without `from`.
struct PackedVector {
  const void* from;
  int64_t stride;
  int count, padded, offset;
};

struct PackJobs {
  static constexpr int kMaxMatrices = 8, kMaxVectors = 16;

  char* image;
  PackedMatrix matrices[kMaxMatrices];
  PackedVector vectors[kMaxVectors];
  int num_matrices, num_vectors;
};

template <class Kind> CLOF_DEVICE void pack_matrix(const PackedMatrix& job, char* image) {
  auto* to = reinterpret_cast<typename Kind::Stored*>(image + job.place.offset);
  const int columns = job.place.columns;
  for (int k = thread_index(); k < job.place.rows * columns; k += num_threads()) {
    const int row = k / columns, column = k % columns;
    const int result = job.transposed ? column : row, input = job.transposed ? row : column;
    float x = 0.0f;
    if (result < job.results && input < job.inputs) x = load_number<Kind>(job.weight, result * job.leading + input);
    if constexpr (!Kind::kHalf) x = Kind::prepared(x);
    store_number<Kind>(to, row * columns + weight_column<Kind>(row, column, columns), x);
  }
}

template <class Kind> CLOF_DEVICE void pack_vector(const PackedVector& job, char* image) {
  auto* to = reinterpret_cast<float*>(image + job.offset);
  for (int k = thread_index(); k < job.padded; k += num_threads()) {
    to[k] = job.from != nullptr && k < job.count ? load_number<Kind>(job.from, k * job.stride) : 0.0f;
  }
}

// A block for each matrix, and one for all vectors.
template <class Kind> CLOF_DEVICE void pack(const PackJobs& jobs) {
  if (block_index() < jobs.num_matrices) {
    pack_matrix<Kind>(jobs.matrices[block_index()], jobs.image);
  } else {
    for (int k = 0; k < jobs.num_vectors; ++k) pack_vector<Kind>(jobs.vectors[k], jobs.image);
  }
}

}  // namespace clof::cuda
