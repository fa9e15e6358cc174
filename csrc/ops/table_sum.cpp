// Host side of table_sum and its backward pass on the CPU.
#include "../cpu/kernels/table_sum.h"

#include <vector>

#include "host.h"

namespace clof::host {
namespace {

// Runs of a table's rows whose gradients one thread sums at a time.
constexpr int64_t kRunGrain = 1024;

struct Call {
  Tensor table, first, share;
  std::optional<Tensor> base;
  TableSumArguments a = {};

  Call(const Tensor& table_, const Tensor& first_, const Tensor& share_) {
    check::shape(table_, {check::any, check::any}, "table");
    if (table_.scalar_type() != ScalarType::Float && table_.scalar_type() != ScalarType::Double) {
      check::wrong_dtype(table_, "float32 or float64", "table");
    }
    table = dense(table_);
    check::shape(first_, {check::any, check::any}, "first");
    check::dtype(first_, ScalarType::Int, "first");
    check::same_device(first_, table, "first", "table");
    first = dense(first_);
    share = checked_shape(share_, table, {first.size(0), first.size(1), check::any}, "share", "table");
    a.dtype = storage_of(table, "table");
    a.rows = first.size(0);
    a.runs = first.size(1);
    a.window = share.size(2);
    a.width = table.size(1);
    a.table = data(table);
    a.first = static_cast<const int32_t*>(data(first));
    a.share = data(share);
    const int64_t starts = table.size(0) - a.window + 1;
    for (int64_t run = 0; run < a.rows * a.runs; ++run) {
      if (a.first[run] < 0 || a.first[run] >= starts) check::index_out_of_range("first", a.first[run], starts);
    }
  }

  void run(TableSumStage stage) const {
    cpu::parallel_blocks(a.rows, kRunGrain,
                         [&](int64_t begin, int64_t end) { cpu::kernels().table_sum(a, stage, begin, end); });
  }
};

Tensor table_sum(const Tensor& table, const Tensor& first, const Tensor& share, const std::optional<Tensor>& base,
                 bool relu) {
  Call call(table, first, share);
  TableSumArguments& a = call.a;
  if (base.has_value()) call.base = checked_shape(*base, call.table, {a.rows, a.width}, "base", "table");
  a.base = data(call.base);
  a.relu = relu;
  Tensor out = empty(call.table, {a.rows, a.width});
  a.out = out.data_ptr();
  call.run(TableSumStage::forward);
  return out;
}

// Numbers of the runs, sorted by the row at which they start.
struct RunsByFirst {
  std::vector<int32_t> numbers, start;

  explicit RunsByFirst(const Call& call) : numbers(call.first.numel()), start(call.table.size(0) + 2) {
    for (size_t run = 0; run < numbers.size(); ++run) ++start[call.a.first[run] + 2];
    for (size_t row = 2; row < start.size(); ++row) start[row] += start[row - 1];
    for (size_t run = 0; run < numbers.size(); ++run) numbers[start[call.a.first[run] + 1]++] = int32_t(run);
  }
};

std::tuple<Tensor, Tensor> table_sum_backward(const Tensor& grad_, const Tensor& table, const Tensor& first,
                                              const Tensor& share, bool share_gradient) {
  Call call(table, first, share);
  TableSumArguments& a = call.a;
  const Tensor grad = checked_shape(grad_, call.table, {a.rows, a.width}, "grad", "table");
  Tensor grad_table = empty(call.table, {call.table.size(0), a.width});
  Tensor grad_share = empty(call.table, {share_gradient ? a.rows : 0, a.runs, a.window});
  const RunsByFirst runs(call);
  a.grad = data(grad);
  a.grad_table = grad_table.data_ptr();
  a.grad_share = grad_share.data_ptr();
  a.by_first = runs.numbers.data();
  a.runs_at_start = runs.start.data();
  cpu::parallel_segments(a.runs_at_start, call.table.size(0), kRunGrain, [&](int64_t begin, int64_t end) {
    cpu::kernels().table_sum(a, TableSumStage::grad_table, begin, end);
  });
  if (share_gradient) call.run(TableSumStage::grad_share);
  return {grad_table, grad_share};
}

}  // namespace
}  // namespace clof::host

STABLE_TORCH_LIBRARY_IMPL(clof_ext, CPU, library) {
  library.impl("table_sum", TORCH_BOX(&clof::host::table_sum));
  library.impl("table_sum_backward", TORCH_BOX(&clof::host::table_sum_backward));
}
