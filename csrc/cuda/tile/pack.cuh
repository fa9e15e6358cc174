// Makes the image of weights from the tensors of a call.
#pragma once

#include "image.h"
#include "product.cuh"

namespace clof::cuda {

// A block of a weight (results, inputs) whose rows are `leading` numbers apart. Inputs beyond the columns of the place
// follow in a further matrix of `results_padded` rows. Transposed, each result may be the first two of `spread`
// columns, with zeros between.
struct PackedMatrix {
  const void* weight;
  int64_t leading;
  int results, inputs, results_padded;
  bool transposed;
  int spread;
  Matrix place;
};

// `count` numbers, `stride` apart, to a vector of the image padded to `padded` numbers; zeros without `from`.
struct PackedVector {
  const void* from;
  int64_t stride;
  int count, padded, offset;
};

struct PackJobs {
  static constexpr int kMaxMatrices = 10, kMaxVectors = 16;

  char* image;
  PackedMatrix matrices[kMaxMatrices];
  PackedVector vectors[kMaxVectors];
  int num_matrices, num_vectors;
};

template <class Kind> CLOF_DEVICE void pack_matrix(const PackedMatrix& job, int first, int step, char* image) {
  auto* to = reinterpret_cast<typename Kind::Stored*>(image + job.place.offset);
  const int columns = job.place.columns;
#pragma unroll 4
  for (int k = first; k < job.place.rows * columns; k += step) {
    const int row = k / columns, column = k % columns;
    int result = row % job.results_padded, input = row / job.results_padded * columns + column;
    if (job.transposed) {
      result = column / job.spread;
      input = row;
    }
    const bool between = job.spread > 1 && column % job.spread > 1;
    float x = 0.0f;
    if (result < job.results && input < job.inputs && !between)
      x = load_number<Kind>(job.weight, result * job.leading + input);
    if constexpr (!Kind::kHalf) x = Kind::prepared(x);
    // A row of a single unit has no halves to exchange.
    const int exchanged = columns > kUnit<Kind> ? weight_column<Kind>(row, column) : column;
    store_number<Kind>(to, row * columns + exchanged, x);
  }
}

template <class Kind> CLOF_DEVICE void pack_vector(const PackedVector& job, char* image) {
  auto* to = reinterpret_cast<float*>(image + job.offset);
  for (int k = thread_index(); k < job.padded; k += num_threads()) {
    to[k] = job.from != nullptr && k < job.count ? load_number<Kind>(job.from, k * job.stride) : 0.0f;
  }
}

// Blocks of threads for each matrix, and one for all vectors.
constexpr int kPackBlocks = 4;

template <class Kind> CLOF_DEVICE void pack(const PackJobs& jobs, int block) {
  const int job = block / kPackBlocks;
  if (job < jobs.num_matrices) {
    const int first = block % kPackBlocks * num_threads() + thread_index();
    pack_matrix<Kind>(jobs.matrices[job], first, kPackBlocks * num_threads(), jobs.image);
  } else {
    for (int k = 0; k < jobs.num_vectors; ++k) pack_vector<Kind>(jobs.vectors[k], jobs.image);
  }
}

}  // namespace clof::cuda
