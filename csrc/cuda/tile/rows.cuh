// 16 rows of features in the registers of a warp.
//
// Lane 4 g + t holds of rows g and g + 8 the features
//     feature(n, t, e) = 4 G (n / B) + G t + 2 (n % B) + e        n = 0 ... Width / 8 - 1, e = 0, 1,
// where G is the Kind's group and B = G / 2: groups of G features side by side, 16 bytes in memory. Tensor cores leave
// column 8 n + 2 t + e of a product in this place, and take it from there as an operand: features are columns in
// another order, the same for every array.
#pragma once

#include "number.cuh"

namespace clof::cuda {

constexpr int kRows = 16;
constexpr int kWarp = 32;

struct Lane {
  int number, g, t;

  CLOF_DEVICE Lane() : number(thread_index() % kWarp), g(number / 4), t(number % 4) {}
};

template <class Kind> constexpr int kBlocks = Kind::kGroup / 2;

template <class Kind> CLOF_DEVICE constexpr int feature(int n, int t, int e) {
  constexpr int kOwn = kBlocks<Kind>;
  return Kind::kGroup * (4 * (n / kOwn) + t) + 2 * (n % kOwn) + e;
}

// at[n][2 h + e]: feature(n, t, e) of row g + 8 h.
template <int Width> struct Rows {
  static constexpr int kWidth = Width;

  float at[Width / 8][4];

  CLOF_DEVICE void fill(float value) {
#pragma unroll
    for (auto& block : at) {
#pragma unroll
      for (float& x : block) x = value;
    }
  }
};

template <int Width> CLOF_DEVICE void scale(Rows<Width>& rows, const Rows<Width>& by) {
#pragma unroll
  for (int n = 0; n < Width / 8; ++n) {
#pragma unroll
    for (int k = 0; k < 4; ++k) rows.at[n][k] *= by.at[n][k];
  }
}

// A lane's numbers of a block of eight features: those of row g, then those of row g + 8.
struct Block {
  float at[4];
};

// Zeros, where a product starts from nothing.
struct NoStart {
  CLOF_DEVICE Block operator()(int) const { return {{0.0f, 0.0f, 0.0f, 0.0f}}; }
};

// A vector of Width numbers in float32, in the places of a row.
template <class Kind, int Width> struct Columns {
  float at[Width / 8][2];

  CLOF_DEVICE Columns(const float* vector, const Lane& lane) {
#pragma unroll
    for (int n = 0; n < Width / 8; n += 2) {
      // Two blocks are four numbers side by side, whatever the group.
      const float4 x = *reinterpret_cast<const float4*>(vector + feature<Kind>(n, lane.t, 0));
      at[n][0] = x.x;
      at[n][1] = x.y;
      at[n + 1][0] = x.z;
      at[n + 1][1] = x.w;
    }
  }

  // Block n of the same numbers in all rows.
  CLOF_DEVICE Block operator()(int n) const { return {{at[n][0], at[n][1], at[n][0], at[n][1]}}; }
};

// Calls body(group, values, n) for each of a lane's groups of a row, n the group's first block.
template <class Kind, int Width, class Body> CLOF_DEVICE void for_groups(const Lane& lane, const Body& body) {
#pragma unroll
  for (int n = 0; n < Width / 8; n += kBlocks<Kind>) body(n, feature<Kind>(n, lane.t, 0));
}

// Takes each of a lane's numbers of a row of Width numbers in memory: body(place in row g + 8 h, number).
template <class Kind, int Width, class Body> CLOF_DEVICE void take_row(Rows<Width>& rows, int h,
                                                                       const typename Kind::Stored* row,
                                                                       const Lane& lane, const Body& body) {
  for_groups<Kind, Width>(lane, [&](int n, int first) {
    float values[Kind::kGroup];
    unpack_group<Kind>(*reinterpret_cast<const uint4*>(row + first), values);
#pragma unroll
    for (int k = 0; k < Kind::kGroup; ++k) body(rows.at[n + k / 2][2 * h + k % 2], values[k]);
  });
}

// Row g + 8 h becomes, or is added, a row in memory.
template <class Kind, int Width>
CLOF_DEVICE void load_row(Rows<Width>& rows, int h, const typename Kind::Stored* row, const Lane& lane) {
  take_row<Kind>(rows, h, row, lane, [](float& to, float x) { to = x; });
}
template <class Kind, int Width>
CLOF_DEVICE void add_row(Rows<Width>& rows, int h, const typename Kind::Stored* row, const Lane& lane) {
  take_row<Kind>(rows, h, row, lane, [](float& to, float x) { to += x; });
}

// A row that may be narrower than Width, and at any address: what is not there is 0.
template <class Kind, int Width> CLOF_DEVICE void load_narrow_row(Rows<Width>& rows, int h, const void* base,
                                                                  int64_t first, int width, const Lane& lane) {
  const bool whole = width == Width;
  for_groups<Kind, Width>(lane, [&](int n, int column) {
    float values[Kind::kGroup];
    if (whole) {
      const auto* row = static_cast<const typename Kind::Stored*>(base) + first;
      unpack_group<Kind>(*reinterpret_cast<const uint4*>(row + column), values);
    } else {
#pragma unroll
      for (int k = 0; k < Kind::kGroup; ++k) {
        values[k] = column + k < width ? load_number<Kind>(base, first + column + k) : 0.0f;
      }
    }
#pragma unroll
    for (int k = 0; k < Kind::kGroup; ++k) rows.at[n + k / 2][2 * h + k % 2] = values[k];
  });
}

// Sum over the features of each of a lane's rows of rows times columns, known to all four lanes of the rows.
template <class Kind, int Width, int Tiles> CLOF_DEVICE void row_products(const Rows<Width> (&rows)[Tiles],
                                                                          const Columns<Kind, Width>& columns,
                                                                          float (&sums)[2 * Tiles]) {
#pragma unroll
  for (int h = 0; h < 2 * Tiles; ++h) {
    sums[h] = 0.0f;
#pragma unroll
    for (int n = 0; n < Width / 8; ++n) {
#pragma unroll
      for (int k = 0; k < 2; ++k) sums[h] += rows[h / 2].at[n][2 * (h % 2) + k] * columns.at[n][k];
    }
    sums[h] += shuffle_xor(sums[h], 1);
    sums[h] += shuffle_xor(sums[h], 2);
  }
}

}  // namespace clof::cuda
