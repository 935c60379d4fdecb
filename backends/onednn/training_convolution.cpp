// SPDX-License-Identifier: MIT
#include "backends/onednn/training_convolution.h"

#include "backends/kernels/blocked_loops.h"
#include "backends/onednn/conv_formulation.h"

#include <optional>
#include <unordered_map>

namespace mfres::onednn {

namespace {

using dnnl::memory;

/// A primitive descriptor with the formulation it was made from, and what it reads and writes as values.
template <typename Descriptor>
struct Pick {
    Descriptor descriptor;
    Formulation form;
    std::string implementation;
    ValueType type = ValueType::f32;
};

/// The first formulation that gets a compiled kernel from make(form), or the best there is. What oneDNN rejects is
/// passed over; if it rejects everything, its first reason is thrown.
template <typename Make>
auto pick_form(const ConvolutionShape& shape, const Make& make) {
    using Descriptor = decltype(make(Formulation()));
    std::optional<Pick<Descriptor>> best;
    std::optional<dnnl::error> rejection;
    for (const Formulation& form : grouping_formulations(shape)) {
        try {
            Descriptor descriptor = make(form);
            const std::string name = descriptor.impl_info_str();
            if (!best || speed_of(name) < speed_of(best->implementation))
                best = Pick<Descriptor>{std::move(descriptor), form, name};
            if (speed_of(name) == Speed::compiled)
                break;
        } catch (const dnnl::error& error) {
            if (!rejection)
                rejection = error;
        }
    }
    if (!best)
        throw rejection.value_or(dnnl::error(dnnl_unimplemented, "there is no kernel for this convolution"));
    return std::move(*best);
}

/// The same from make(form, type) for values stored as `stored`: a kernel for these where oneDNN has a compiled one,
/// else one for f32, as is all in f32.
template <typename Make>
auto pick(const ConvolutionShape& shape, ValueType stored, const Make& make) {
    const auto of_type = [&](ValueType type) {
        auto picked = pick_form(shape, [&](const Formulation& form) { return make(form, type); });
        picked.type = type;
        return picked;
    };
    if (stored != ValueType::f32)
        try {
            if (auto picked = of_type(stored); speed_of(picked.implementation) == Speed::compiled)
                return picked;
        } catch (const dnnl::error&) { // there is none at all
        }
    return of_type(ValueType::f32);
}

/// Bytes rounded up to where the next part of a workspace may begin.
std::int64_t padded(std::size_t bytes) {
    return (static_cast<std::int64_t>(bytes) + 63) / 64 * 64;
}

memory at(const memory::desc& desc, const dnnl::engine& engine, const void* data) {
    return {desc, engine, const_cast<void*>(data)}; // oneDNN has no memory of const
}

/// Values in the type of a kernel: the stored array, or an f32 copy of it in the workspace.
class KernelValues {
  public:
    KernelValues() = default;
    KernelValues(const ValueArray& stored, const Shape& shape, ValueType kernel, std::byte*& workspace)
        : stored_(stored), count_(shape.elements()) {
        if (!stored.rounds() || kernel != ValueType::f32)
            return;
        copy_ = reinterpret_cast<float*>(workspace);
        workspace += workspace_bytes(shape, ValueType::bf16, kernel);
    }
    static std::int64_t workspace_bytes(const Shape& shape, ValueType stored, ValueType kernel) {
        return stored == kernel ? 0 : padded(static_cast<std::size_t>(shape.elements()) * sizeof(float));
    }

    const void* data() const { return copy_ ? copy_ : stored_.data(); }
    void before_reading(int threads) const {
        if (copy_)
            stored_.read_all(count_, threads, copy_);
    }
    void after_writing(int threads) const {
        if (copy_)
            stored_.store_all(count_, threads, copy_);
    }

  private:
    ValueArray stored_;
    std::int64_t count_ = 0;
    float* copy_ = nullptr;
};

/// Weights between the plain order of HostParameters and the format and grouping of a kernel, by way of the workspace.
/// Does nothing where both are the same.
class WeightFormat {
  public:
    WeightFormat() = default;
    WeightFormat(const ConvolutionShape& shape, const Formulation& form, const memory::desc& kernel,
                 const dnnl::engine& engine)
        : shape_(shape), form_(form), kernel_(kernel), plain_(plain_weights(weight_dims(shape, form))),
          engine_(engine) {}

    std::int64_t workspace_bytes() const { return merged_bytes() + (reorders() ? padded(kernel_.get_size()) : 0); }

    /// `plain` are the parameter's values or gradient. Returns what the kernel reads or writes.
    memory bind(float* plain, std::byte* workspace, bool to_kernel) {
        parameter_ = plain;
        merged_ = form_.merged_groups > 1 ? reinterpret_cast<float*>(workspace) : nullptr;
        const memory outside = at(plain_, engine_, merged_ ? merged_ : plain);
        if (!reorders())
            return outside;
        const memory inside = at(kernel_, engine_, workspace + merged_bytes());
        from_ = to_kernel ? outside : inside;
        to_ = to_kernel ? inside : outside;
        reorder_ = dnnl::reorder(from_, to_);
        return inside;
    }

    void to_kernel(dnnl::stream& stream) {
        if (merged_)
            merge_groups(shape_, form_.merged_groups, parameter_, merged_);
        reorder(stream);
    }

    void from_kernel(dnnl::stream& stream) {
        reorder(stream);
        if (merged_)
            split_groups(shape_, form_.merged_groups, merged_, parameter_);
    }

  private:
    bool reorders() const { return kernel_ != plain_; }

    std::int64_t merged_bytes() const { return form_.merged_groups > 1 ? padded(plain_.get_size()) : 0; }

    void reorder(dnnl::stream& stream) {
        if (!reorders())
            return;
        reorder_.execute(stream, from_, to_);
        stream.wait();
    }

    ConvolutionShape shape_;
    Formulation form_;
    memory::desc kernel_, plain_;
    dnnl::engine engine_;
    memory from_, to_;
    dnnl::reorder reorder_;
    float* parameter_ = nullptr;
    float* merged_ = nullptr;
};

class ConvolutionTraining final : public TrainingOp {
  public:
    ConvolutionTraining(const TrainingContext& context, NodeId id)
        : context_(context),
          node_(context.node(id)), shape_{node_.as<Conv>(), context.node(node_.inputs[0]).shape, node_.shape},
          rows_(node_.shape, context.threads) {
        attributes_.set_scratchpad_mode(dnnl::scratchpad_mode::user);
        forward_ = pick(shape_, context.type,
                        [&](const Formulation& form, ValueType type) { return describe_forward(form, type); });
        weights_ = pick(shape_, context.type, [&](const Formulation& form, ValueType type) {
            ConvolutionGeometry gradients = training_geometry(form, type);
            gradients.weights = training_geometry(form, ValueType::f32).weights;
            auto described =
                describe_backward_weights(gradients, attributes_, context_.engine, describe_forward(form, type));
            reject_wrong_weights_kernel(described.impl_info_str(), form);
            return described;
        });
        weights_gradient_ = {shape_, weights_->form, weights_->descriptor.diff_weights_desc(), context_.engine};
        if (context.network.with_gradient[static_cast<std::size_t>(node_.inputs[0])] == 0)
            return;
        data_ = pick(shape_, context.type, [&](const Formulation& form, ValueType type) {
            auto described = describe_backward_data(training_geometry(form, type), attributes_, context_.engine,
                                                    describe_forward(form, type));
            reject_wrong_kernel(described.impl_info_str(), form);
            return described;
        });
        data_weights_ = {shape_, data_->form, data_->descriptor.weights_desc(), context_.engine};
    }

    std::string forward_implementation() const override { return described(forward_); }
    std::string backward_implementation() const override {
        const std::string name = "weights " + described(*weights_);
        return data_ ? "data " + described(*data_) + ", " + name : name;
    }

    OpWorkspace workspace() const override {
        OpWorkspace workspace;
        workspace.forward = workspace.recompute = workspace_bytes(forward_, forward_weights());
        workspace.backward = gather_bytes() + weights_bytes() + (data_ ? workspace_bytes(*data_, data_weights_) : 0);
        return workspace;
    }

    void bind(const ArrayPlacement& placement, const OpArrays& arrays) override {
        const Binding binding = context_.binding(placement);
        for (const OpArrays::Forward& forward : arrays.forwards)
            bind_forward(binding.values(forward.inputs[0].array), binding.values(forward.outputs[0].channels.array),
                         placement.at(forward.workspace));
        if (!arrays.has_backward)
            return;
        gradient_rows_ = RowReader(binding, node_.shape[1], arrays.contributions);
        gathered_rows_ = binding.values(arrays.summed);
        gather_memory_ = binding.workspace(arrays.workspace);
        std::byte* const memory = placement.at(arrays.workspace) + gather_bytes();
        const ValueArray dy = binding.values(arrays.gradient);
        bind_weights(binding.values(arrays.inputs[0].array), dy, memory);
        if (data_)
            bind_data(dy, binding.values(arrays.input_gradients[0].array), memory + weights_bytes());
    }

    void forward(bool recompute) override {
        dnnl::stream& stream = context_.stream;
        Pass& pass = passes_[recompute ? 1 : 0];
        pass.weights.to_kernel(stream);
        pass.x.before_reading(context_.threads);
        forward_primitive_.execute(stream, pass.arguments);
        stream.wait();
        pass.y.after_writing(context_.threads);
    }

    void backward() override {
        dnnl::stream& stream = context_.stream;
        if (gathered_rows_)
            gradient_rows_.store_all(rows_, gathered_rows_, gather_bytes() > 0 ? gather_memory_ : nullptr);
        weights_x_.before_reading(context_.threads);
        weights_dy_.before_reading(context_.threads);
        weights_primitive_.execute(stream, weights_arguments_);
        stream.wait();
        weights_gradient_.from_kernel(stream);
        if (!data_)
            return;
        data_weights_.to_kernel(stream);
        data_dy_.before_reading(context_.threads);
        data_primitive_.execute(stream, data_arguments_);
        stream.wait();
        data_dx_.after_writing(context_.threads);
    }

  private:
    /// With values and weights of a type.
    ConvolutionGeometry training_geometry(const Formulation& form, ValueType type) const {
        const auto stored = type == ValueType::f32 ? memory::data_type::f32 : memory::data_type::bf16;
        ConvolutionGeometry g = geometry(shape_, form, {stored, stored, stored});
        if (!shape_.conv.bias)
            g.bias = {};
        return g;
    }

    dnnl::convolution_forward::primitive_desc describe_forward(const Formulation& form, ValueType type) const {
        return onednn::describe(training_geometry(form, type), attributes_, context_.engine,
                                dnnl::prop_kind::forward_training);
    }

    /// oneDNN 2.6.3 computes the data gradient of 3-D pointwise convolutions with an odd number of output channels
    /// wrong in bf16: it takes them in pairs and the last one together with the next voxel's first. As planes it is
    /// right. May throw dnnl::error, for pick.
    void reject_wrong_kernel(const std::string& implementation, const Formulation& form) const {
        const bool odd = shape_.conv.out_channels / shape_.conv.groups * form.merged_groups % 2 != 0;
        if (odd && !form.planes && implementation.find("jit_bf16_1x1") != std::string::npos)
            throw dnnl::error(dnnl_unimplemented, "this kernel computes something else");
    }

    /// oneDNN 3.7.2 computes the weight gradient in bf16 from memory that it has not written where the kernel is longer
    /// than the first spatial axis, as 3 taps on 2 voxels (the deepest level of a crop of 32). May throw dnnl::error, for
    /// pick.
    void reject_wrong_weights_kernel(const std::string& implementation, const Formulation& form) const {
        const std::int64_t taps = shape_.conv.kernel[0];
        const bool beyond = taps > 1 && shape_.in[2] < (taps - 1) * shape_.conv.dilation[0] + 1;
        if (dnnl_version()->major >= 3 && beyond && !form.planes &&
            implementation.find("jit_bf16") != std::string::npos)
            throw dnnl::error(dnnl_unimplemented, "this kernel computes something else");
    }

    template <typename Descriptor>
    std::string described(const Pick<Descriptor>& picked) const {
        return picked.implementation + describe(picked.form) + (picked.type != context_.type ? ", in f32" : "");
    }

    template <typename Descriptor>
    std::int64_t workspace_bytes(const Pick<Descriptor>& picked, const WeightFormat& weights) const {
        return padded(picked.descriptor.scratchpad_desc().get_size()) + weights.workspace_bytes() +
               KernelValues::workspace_bytes(shape_.in, context_.type, picked.type) +
               KernelValues::workspace_bytes(shape_.out, context_.type, picked.type);
    }

    /// A workspace contains the kernel's own, then that of the weights, then copies of values in the type of the kernel.
    template <typename Descriptor>
    static std::byte* behind(const Descriptor& descriptor, std::byte* workspace) {
        return workspace + padded(descriptor.scratchpad_desc().get_size());
    }

    /// Of contributions that are added: a block for every thread.
    std::int64_t gather_bytes() const {
        if (context_.type == ValueType::f32)
            return 0;
        return padded(static_cast<std::size_t>(rows_.threads() * rows_.block()) * sizeof(float));
    }

    WeightFormat forward_weights() const {
        return {shape_, forward_.form, forward_.descriptor.weights_desc(), context_.engine};
    }
    std::int64_t weights_bytes() const { return workspace_bytes(*weights_, weights_gradient_); }

    void bind_forward(const ValueArray& x, const ValueArray& y, std::byte* workspace) {
        const auto& descriptor = forward_.descriptor;
        const dnnl::engine& engine = context_.engine;
        Pass& pass = passes_.emplace_back();
        pass.weights = forward_weights();
        std::byte* const weights = behind(descriptor, workspace);
        std::byte* copies = weights + pass.weights.workspace_bytes();
        pass.x = KernelValues(x, shape_.in, forward_.type, copies);
        pass.y = KernelValues(y, shape_.out, forward_.type, copies);
        pass.arguments = {{DNNL_ARG_SRC, at(descriptor.src_desc(), engine, pass.x.data())},
                          {DNNL_ARG_WEIGHTS, pass.weights.bind(context_.values(node_, 0), weights, true)},
                          {DNNL_ARG_DST, at(descriptor.dst_desc(), engine, pass.y.data())},
                          {DNNL_ARG_SCRATCHPAD, at(descriptor.scratchpad_desc(), engine, workspace)}};
        if (shape_.conv.bias)
            pass.arguments.emplace(DNNL_ARG_BIAS, at(descriptor.bias_desc(), engine, context_.values(node_, 1)));
        forward_primitive_ = dnnl::convolution_forward(descriptor);
    }

    void bind_weights(const ValueArray& x, const ValueArray& dy, std::byte* workspace) {
        const auto& descriptor = weights_->descriptor;
        const dnnl::engine& engine = context_.engine;
        std::byte* const weights = behind(descriptor, workspace);
        std::byte* copies = weights + weights_gradient_.workspace_bytes();
        weights_x_ = KernelValues(x, shape_.in, weights_->type, copies);
        weights_dy_ = KernelValues(dy, shape_.out, weights_->type, copies);
        weights_arguments_ = {
            {DNNL_ARG_SRC, at(descriptor.src_desc(), engine, weights_x_.data())},
            {DNNL_ARG_DIFF_DST, at(descriptor.diff_dst_desc(), engine, weights_dy_.data())},
            {DNNL_ARG_DIFF_WEIGHTS, weights_gradient_.bind(context_.gradient(node_, 0), weights, false)},
            {DNNL_ARG_SCRATCHPAD, at(descriptor.scratchpad_desc(), engine, workspace)}};
        if (shape_.conv.bias)
            weights_arguments_.emplace(DNNL_ARG_DIFF_BIAS,
                                       at(descriptor.diff_bias_desc(), engine, context_.gradient(node_, 1)));
        weights_primitive_ = dnnl::convolution_backward_weights(descriptor);
    }

    void bind_data(const ValueArray& dy, const ValueArray& dx, std::byte* workspace) {
        const auto& descriptor = data_->descriptor;
        const dnnl::engine& engine = context_.engine;
        std::byte* const weights = behind(descriptor, workspace);
        std::byte* copies = weights + data_weights_.workspace_bytes();
        data_dx_ = KernelValues(dx, shape_.in, data_->type, copies);
        data_dy_ = KernelValues(dy, shape_.out, data_->type, copies);
        data_arguments_ = {{DNNL_ARG_DIFF_SRC, at(descriptor.diff_src_desc(), engine, data_dx_.data())},
                           {DNNL_ARG_DIFF_DST, at(descriptor.diff_dst_desc(), engine, data_dy_.data())},
                           {DNNL_ARG_WEIGHTS, data_weights_.bind(context_.values(node_, 0), weights, true)},
                           {DNNL_ARG_SCRATCHPAD, at(descriptor.scratchpad_desc(), engine, workspace)}};
        data_primitive_ = dnnl::convolution_backward_data(descriptor);
    }

    TrainingContext context_;
    const Node& node_;
    ConvolutionShape shape_;
    Blocks rows_;
    dnnl::primitive_attr attributes_;

    Pick<dnnl::convolution_forward::primitive_desc> forward_;
    std::optional<Pick<dnnl::convolution_backward_weights::primitive_desc>> weights_;
    std::optional<Pick<dnnl::convolution_backward_data::primitive_desc>> data_;
    WeightFormat weights_gradient_, data_weights_;
    dnnl::convolution_forward forward_primitive_;
    dnnl::convolution_backward_weights weights_primitive_;
    dnnl::convolution_backward_data data_primitive_;
    std::unordered_map<int, memory> weights_arguments_, data_arguments_;
    KernelValues weights_x_, weights_dy_, data_dx_, data_dy_;

    struct Pass {
        WeightFormat weights;
        KernelValues x, y;
        std::unordered_map<int, memory> arguments;
    };
    std::vector<Pass> passes_; ///< forward and recomputation

    RowReader gradient_rows_;
    float* gather_memory_ = nullptr;
    ValueArray gathered_rows_; ///< where the contributions are added, unless they are one dense array
};

} // namespace

std::unique_ptr<TrainingOp> make_convolution(const TrainingContext& context, NodeId id) {
    return std::make_unique<ConvolutionTraining>(context, id);
}

} // namespace mfres::onednn
