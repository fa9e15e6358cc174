// Arguments of table_sum: sums of weighted runs of a table's rows.
#pragma once

#include "../../functor/arguments.h"

namespace clof {

// E rows of the result, each of T runs of W rows of a table of R rows; H columns.
struct TableSumArguments {
  Storage dtype;  // float32 or float64, of all tensors but `first`
  int64_t rows, runs, window, width;
  const void* table;     // (R, H)
  const int32_t* first;  // (E, T), first row of each run
  const void* share;     // (E, T, W)
  const void* base;      // (E, H), or null for zeros
  bool relu;
  void* out;  // (E, H)

  const void* grad;              // (E, H)
  void* grad_table;              // (R, H)
  void* grad_share;              // (E, T, W)
  const int32_t* by_first;       // (E T,), numbers of the runs sorted by their first row
  const int32_t* runs_at_start;  // (R + 1,), where the runs that start at a row begin among them
};

enum class TableSumStage : int {
  forward,     // rows of the result
  grad_table,  // rows of the table
  grad_share,  // rows of the result
};

}  // namespace clof
