// A device that computes on the CPU and is as strict as a GPU about where tensors are.
//
// Memory comes from the host and every operation is done by PyTorch's own CPU kernels, but its
// tensors say that they are elsewhere: an operation on tensors of two devices fails, and so does
// reading one as an array, as both would on a GPU.

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

namespace {

constexpr auto kPretend = c10::DeviceType::PrivateUse1;

struct HostAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t n_bytes) override {
    void* data = n_bytes ? std::malloc(n_bytes) : nullptr;
    return {data, data, &std::free, c10::Device(kPretend, 0)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &std::free; }
  void copy_data(void* to, const void* from, std::size_t n_bytes) const override {
    std::memcpy(to, from, n_bytes);
  }
};

std::atomic<int64_t> n_done{0};  // operations on tensors of this device

HostAllocator allocator;
REGISTER_ALLOCATOR(kPretend, &allocator)

// One device with one stream, on which everything has been done when it is asked for.
struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::Device here() const { return {kPretend, 0}; }
  c10::Stream stream() const { return c10::Stream(c10::Stream::DEFAULT, here()); }
  c10::DeviceType type() const override { return kPretend; }
  c10::Device exchangeDevice(c10::Device) const override { return here(); }
  c10::Device getDevice() const override { return here(); }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return stream(); }
  c10::Stream getDefaultStream(c10::Device) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const override { return stream(); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
  void record(void**, const c10::Stream&, const c10::DeviceIndex,
              const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(const c10::DeviceIndex) const override {}
  void recordDataPtrOnStream(const c10::DataPtr&, const c10::Stream&) const override {}
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
};

const int registered = [] {
  at::RegisterPrivateUse1HooksInterface(new Hooks);
  return 0;
}();

c10::DispatchKeySet keys() { return c10::DispatchKeySet(c10::DispatchKey::PrivateUse1); }

bool is_pretend(const at::Tensor& tensor) {
  return tensor.defined() && tensor.device().type() == kPretend;
}

// The same memory as a CPU tensor.
at::Tensor on_host(const at::Tensor& tensor) {
  if (!is_pretend(tensor)) return tensor;
  return at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(),
                       tensor.options().device(at::kCPU).requires_grad(false));
}

at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype,
                 std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>,
                 std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &allocator, keys(), c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride,
                         std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                         std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &allocator, keys(),
                                           c10::dtype_or_default(dtype));
}

const at::Tensor& resize_(const at::Tensor& self, at::IntArrayRef size,
                          std::optional<at::MemoryFormat>) {
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_sizes_contiguous(size);
  const size_t wanted = (self.numel() + self.storage_offset()) * self.itemsize();
  const auto& storage = impl->unsafe_storage();
  if (wanted > storage.nbytes()) {
    auto data = allocator.allocate(wanted);
    if (storage.nbytes()) std::memcpy(data.get(), storage.data(), storage.nbytes());
    storage.unsafeGetStorageImpl()->set_data_ptr_noswap(std::move(data));
    storage.unsafeGetStorageImpl()->set_nbytes(wanted);
  }
  return self;
}

at::Tensor copy_from(const at::Tensor& self, const at::Tensor& to, bool) {
  on_host(to).copy_(on_host(self));
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& self, const at::Tensor& to) {
  if (to.sizes() != self.sizes()) resize_(to, self.sizes(), std::nullopt);
  return copy_from(self, to, false);
}

at::Scalar local_scalar_dense(const at::Tensor& self) { return on_host(self).item(); }

bool equal(const at::Tensor& self, const at::Tensor& other) {
  TORCH_CHECK(self.device() == other.device(), "tensors on two devices: equal");
  return at::equal(on_host(self), on_host(other));
}

at::Tensor& set_storage(at::Tensor& self, at::Storage source, c10::SymInt offset,
                        c10::SymIntArrayRef size, c10::SymIntArrayRef stride) {
  self.unsafeGetTensorImpl()->set_storage_keep_dtype(std::move(source));
  self.unsafeGetTensorImpl()->set_sizes_and_strides(
      C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), offset.expect_int());
  return self;
}

at::Tensor& set_whole_storage(at::Tensor& self, at::Storage source) {
  const auto n = static_cast<int64_t>(source.nbytes() / self.itemsize());
  return set_storage(self, std::move(source), 0, c10::SymIntArrayRef({c10::SymInt(n)}),
                     c10::SymIntArrayRef({c10::SymInt(1)}));
}

// PyTorch asks every device but the CPU for one kernel a cell.
std::tuple<at::Tensor, at::Tensor> gru_cell(const at::Tensor& input_gates,
                                            const at::Tensor& hidden_gates, const at::Tensor& hx,
                                            const std::optional<at::Tensor>& input_bias,
                                            const std::optional<at::Tensor>& hidden_bias) {
  const auto from_input = (input_bias ? input_gates + *input_bias : input_gates).chunk(3, 1);
  const auto from_hidden = (hidden_bias ? hidden_gates + *hidden_bias : hidden_gates).chunk(3, 1);
  const auto reset = at::sigmoid(from_input[0] + from_hidden[0]);
  const auto keep = at::sigmoid(from_input[1] + from_hidden[1]);
  const auto fresh = at::tanh(from_input[2] + reset * from_hidden[2]);
  const auto workspace = at::cat({reset, keep, fresh, hx, from_hidden[2]}, 1);
  return {fresh + keep * (hx - fresh), workspace};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> gru_cell_backward(
    const at::Tensor& gradient, const at::Tensor& workspace, bool has_bias) {
  const auto parts = workspace.chunk(5, 1);
  const auto &reset = parts[0], &keep = parts[1], &fresh = parts[2], &hx = parts[3];
  const auto d_fresh = gradient * (1 - keep) * (1 - fresh * fresh);
  const auto d_keep = gradient * (hx - fresh) * keep * (1 - keep);
  const auto d_reset = d_fresh * parts[4] * reset * (1 - reset);
  const auto d_input = at::cat({d_reset, d_keep, d_fresh}, 1);
  const auto d_hidden = at::cat({d_reset, d_keep, d_fresh * reset}, 1);
  auto of_bias = [&](const at::Tensor& d) { return has_bias ? d.sum(0) : at::Tensor(); };
  return {d_input, d_hidden, gradient * keep, of_bias(d_input), of_bias(d_hidden)};
}

// A GPU takes indices from the host, and numbers, which are tensors without dimensions.
bool may_be_on_host(const std::string& name, size_t argument, const at::Tensor& tensor) {
  const bool takes_indices = name == "aten::index" || name.find("index_put") != std::string::npos;
  return tensor.dim() == 0 || (takes_indices && argument == 1);
}

void strict_fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& name = op.schema().name();
  const size_t n = op.schema().arguments().size();
  bool has_pretend = false, has_host = false;
  auto see = [&](const at::Tensor& tensor, size_t argument) {
    if (!tensor.defined()) return;
    if (is_pretend(tensor)) has_pretend = true;
    else if (!may_be_on_host(name, argument, tensor)) has_host = true;
  };
  for (size_t i = 0; i < n; ++i) {
    const auto& value = torch::jit::peek(*stack, i, n);
    if (value.isTensor()) see(value.toTensor(), i);
    else if (value.isTensorList()) for (const auto& t : value.toTensorVector()) see(t, i);
    else if (value.isOptionalTensorList())
      for (const std::optional<at::Tensor>& t : value.toOptionalTensorList()) if (t) see(*t, i);
  }
  TORCH_CHECK(!(has_pretend && has_host), "tensors on two devices: ", name);
  n_done += has_pretend;
  at::native::cpu_fallback(op, stack);
}

TORCH_LIBRARY(pretend, m) {
  m.def("n_done() -> int", [] { return n_done.load(); });
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&strict_fallback>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("resize_", &resize_);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  m.impl("_local_scalar_dense", &local_scalar_dense);
  m.impl("equal", &equal);
  m.impl("set_.source_Storage_storage_offset", &set_storage);
  m.impl("set_.source_Storage", &set_whole_storage);
  m.impl("_thnn_fused_gru_cell", &gru_cell);
  m.impl("_thnn_fused_gru_cell_backward", &gru_cell_backward);
  m.impl("as_strided", TORCH_FN(at::native::as_strided_tensorimpl));
  m.impl("view", TORCH_FN(at::native::view));
  m.impl("_reshape_alias", TORCH_FN(at::native::_reshape_alias));
  m.impl("unfold", TORCH_FN(at::native::unfold));
}

}  // namespace
