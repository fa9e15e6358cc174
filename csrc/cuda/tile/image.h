// The image of a call's weights: all of them once, padded and in the order in which the kernels read them. Blocks copy
// a part of it to shared memory. Host and device.
#pragma once

#include <cstdint>

namespace clof::cuda {

constexpr int kMaxAxes = 3;
// Edge layers beside the first.
constexpr int kMaxLayers = 2;

// A matrix with a row for each result: `offset` in bytes from the image's beginning, both sizes padded with zeros.
struct Matrix {
  int offset, rows, columns;
};

struct Image {
  int width;         // padded hidden features
  int edge_columns;  // padded edge features
  // What every tile reads again and again comes first, then float32 vectors and the head, then what multiplies edge
  // features.
  Matrix layers[kMaxLayers], coordinate;
  Matrix layers_transposed[kMaxLayers], coordinate_transposed;
  int radial, biases[kMaxLayers + 1], gate, scalars;  // offsets of vectors; the last bias is the coordinate layer's
  Matrix head;                                        // a row for each axis
  Matrix head_transposed;  // axis k in the columns of the first two numbers that lane t = k reads
  Matrix edge;             // parts of `width` columns, one behind the other
  Matrix edge_transposed;
  int square_bytes, vector_bytes, bytes;  // how far the square matrices, the vectors and everything go
};

// Edge features that the backward pass holds.
constexpr int kEdgeGradientColumns = 32;

// Results that tensor cores make at a time, and bytes that the four lanes of a row read at a time.
constexpr int kHeadResults = 8, kUnitBytes = 64;

// Positions among the scalars.
constexpr int kGateBias = 0, kHeadBias = 1, kScalars = 4;

inline int padded_to(int size, int unit) { return (size + unit - 1) / unit * unit; }

inline Image make_image(int width, int number_bytes, int edge_features, int layers, bool coordinate, bool transposed) {
  Image image = {};
  image.width = width;
  image.edge_columns = padded_to(edge_features, 16);
  const auto matrix = [&](int rows, int columns) {
    const Matrix place = {image.bytes, rows, columns};
    image.bytes += rows * columns * number_bytes;
    return place;
  };
  for (int k = 0; k < layers; ++k) image.layers[k] = matrix(width, width);
  if (coordinate) image.coordinate = matrix(width, width);
  if (transposed) {
    for (int k = 0; k < layers; ++k) image.layers_transposed[k] = matrix(width, width);
    if (coordinate) image.coordinate_transposed = matrix(width, width);
  }
  image.square_bytes = image.bytes;
  const auto vector = [&](int count) {
    const int place = image.bytes;
    image.bytes += count * int(sizeof(float));
    return place;
  };
  image.radial = vector(width);
  for (int& bias : image.biases) bias = vector(width);
  image.gate = vector(width);
  image.scalars = vector(kScalars);
  image.head = matrix(kHeadResults, width);
  if (transposed) image.head_transposed = matrix(width, kUnitBytes / number_bytes);
  image.vector_bytes = image.bytes;
  image.edge = matrix(padded_to(edge_features, width) / width * width, width);
  if (transposed) image.edge_transposed = matrix(padded_to(edge_features, kEdgeGradientColumns), width);
  return image;
}

}  // namespace clof::cuda
