#include "backends/onednn/training_convolution.h"

#include "backends/onednn/blocked_loops.h"
#include "backends/onednn/conv_formulation.h"

#include <optional>
#include <unordered_map>

namespace mfres::onednn {

namespace {

using dnnl::memory;

/// A primitive descriptor with the formulation it was made from.
template <typename Descriptor>
struct Pick {
    Descriptor descriptor;
    Formulation form;
    std::string implementation;
};

/// The first formulation that gets a compiled kernel from make(form), or the best there is. What oneDNN rejects is
/// passed over; if it rejects everything, its first reason is thrown.
template <typename Make>
auto pick(const ConvolutionShape& shape, const Make& make) {
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

/// Bytes rounded up to what the next part of a scratch area may start at.
std::int64_t padded(std::size_t bytes) {
    return (static_cast<std::int64_t>(bytes) + 63) / 64 * 64;
}

memory at(const memory::desc& desc, const dnnl::engine& engine, const void* data) {
    return {desc, engine, const_cast<void*>(data)}; // oneDNN has no memory of const
}

/// Weights between the plain order of HostParameters and the format and grouping of a kernel, through scratch memory.
/// Does nothing where both are the same.
class WeightFormat {
  public:
    WeightFormat() = default;
    WeightFormat(const ConvolutionShape& shape, const Formulation& form, const memory::desc& kernel,
                 const dnnl::engine& engine)
        : shape_(shape), form_(form), kernel_(kernel), plain_(plain_weights(weight_dims(shape, form))),
          engine_(engine) {}

    std::int64_t scratch_bytes() const { return merged_bytes() + (reorders() ? padded(kernel_.get_size()) : 0); }

    /// `plain` are the parameter's values or gradient. Returns what the kernel reads or writes.
    memory bind(float* plain, std::byte* scratch, bool to_kernel) {
        parameter_ = plain;
        merged_ = form_.merged_groups > 1 ? reinterpret_cast<float*>(scratch) : nullptr;
        const memory outside = at(plain_, engine_, merged_ ? merged_ : plain);
        if (!reorders())
            return outside;
        const memory inside = at(kernel_, engine_, scratch + merged_bytes());
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

class ConvolutionTraining final : public TrainingStep {
  public:
    ConvolutionTraining(const TrainingContext& context, NodeId id)
        : context_(context),
          node_(context.graph.node(id)), shape_{node_.as<Conv>(), context.graph.node(node_.inputs[0]).shape,
                                                node_.shape},
          rows_(node_.shape, context.threads) {
        attributes_.set_scratchpad_mode(dnnl::scratchpad_mode::user);
        forward_ = pick(shape_, [&](const Formulation& form) { return describe_forward(form); });
        weights_ = pick(shape_, [&](const Formulation& form) {
            return describe_backward_weights(training_geometry(form), attributes_, context_.engine,
                                             describe_forward(form));
        });
        weights_gradient_ = {shape_, weights_->form, weights_->descriptor.diff_weights_desc(), context_.engine};
        if (context.with_gradient[static_cast<std::size_t>(node_.inputs[0])] == 0)
            return;
        data_ = pick(shape_, [&](const Formulation& form) {
            return describe_backward_data(training_geometry(form), attributes_, context_.engine,
                                          describe_forward(form));
        });
        data_weights_ = {shape_, data_->form, data_->descriptor.weights_desc(), context_.engine};
    }

    std::string node() const override { return node_.name; }
    std::string operation() const override { return "conv"; }
    std::string forward_implementation() const override { return forward_.implementation + describe(forward_.form); }
    std::string backward_implementation() const override {
        if (!has_backward_)
            return {};
        std::string name = "weights " + weights_->implementation + describe(weights_->form);
        return data_ ? "data " + data_->implementation + describe(data_->form) + ", " + name : name;
    }

    StepNeeds needs() const override {
        StepNeeds needs;
        needs.forward = needs.again = scratch_bytes(forward_.descriptor, forward_weights());
        needs.backward = weights_bytes() + (data_ ? scratch_bytes(data_->descriptor, data_weights_) : 0);
        return needs;
    }

    void bind(const TrainingPlan& plan, const StepPlan& step, float* block) override {
        const auto scratch = [&](ArrayId id) { return reinterpret_cast<std::byte*>(plan.at(block, id)); };
        for (const StepPlan::Forward& forward : step.forwards)
            bind_forward(plan.at(block, forward.inputs[0].array), plan.at(block, forward.outputs[0].channels.array),
                         scratch(forward.scratch));
        has_backward_ = step.has_backward;
        if (!has_backward_)
            return;
        gradient_rows_ = RowReader(plan, block, node_.shape[1], step.terms);
        gathered_rows_ = plan.at(block, step.summed);
        const float* dy = plan.at(block, step.gradient);
        bind_weights(plan.at(block, step.inputs[0].array), dy, scratch(step.scratch));
        if (data_)
            bind_data(dy, plan.at(block, step.input_gradients[0]), scratch(step.scratch) + weights_bytes());
    }

    void forward(dnnl::stream& stream, bool again) override {
        Pass& pass = passes_[again ? 1 : 0];
        pass.weights.to_kernel(stream);
        forward_primitive_.execute(stream, pass.arguments);
        stream.wait();
    }

    void backward(dnnl::stream& stream) override {
        if (!has_backward_)
            return;
        if (gathered_rows_)
            gather();
        weights_primitive_.execute(stream, weights_arguments_);
        stream.wait();
        weights_gradient_.from_kernel(stream);
        if (!data_)
            return;
        data_weights_.to_kernel(stream);
        data_primitive_.execute(stream, data_arguments_);
        stream.wait();
    }

  private:
    ConvolutionGeometry training_geometry(const Formulation& form) const {
        ConvolutionGeometry g = geometry(shape_, form);
        if (!shape_.conv.bias)
            g.bias = {};
        return g;
    }

    dnnl::convolution_forward::primitive_desc describe_forward(const Formulation& form) const {
        return describe_training_forward(training_geometry(form), attributes_, context_.engine);
    }

    template <typename Descriptor>
    static std::int64_t scratch_bytes(const Descriptor& descriptor, const WeightFormat& weights) {
        return padded(descriptor.scratchpad_desc().get_size()) + weights.scratch_bytes();
    }

    /// The kernel's scratch memory comes first, that of the weights behind it.
    template <typename Descriptor>
    static std::byte* behind(const Descriptor& descriptor, std::byte* scratch) {
        return scratch + padded(descriptor.scratchpad_desc().get_size());
    }

    WeightFormat forward_weights() const {
        return {shape_, forward_.form, forward_.descriptor.weights_desc(), context_.engine};
    }
    std::int64_t weights_bytes() const { return scratch_bytes(weights_->descriptor, weights_gradient_); }

    void bind_forward(const float* x, float* y, std::byte* scratch) {
        const auto& descriptor = forward_.descriptor;
        const dnnl::engine& engine = context_.engine;
        Pass& pass = passes_.emplace_back();
        pass.weights = forward_weights();
        pass.arguments = {
            {DNNL_ARG_SRC, at(descriptor.src_desc(), engine, x)},
            {DNNL_ARG_WEIGHTS, pass.weights.bind(context_.values(node_, 0), behind(descriptor, scratch), true)},
            {DNNL_ARG_DST, at(descriptor.dst_desc(), engine, y)},
            {DNNL_ARG_SCRATCHPAD, at(descriptor.scratchpad_desc(), engine, scratch)}};
        if (shape_.conv.bias)
            pass.arguments.emplace(DNNL_ARG_BIAS, at(descriptor.bias_desc(), engine, context_.values(node_, 1)));
        forward_primitive_ = dnnl::convolution_forward(descriptor);
    }

    void bind_weights(const float* x, const float* dy, std::byte* scratch) {
        const auto& descriptor = weights_->descriptor;
        const dnnl::engine& engine = context_.engine;
        weights_arguments_ = {{DNNL_ARG_SRC, at(descriptor.src_desc(), engine, x)},
                              {DNNL_ARG_DIFF_DST, at(descriptor.diff_dst_desc(), engine, dy)},
                              {DNNL_ARG_DIFF_WEIGHTS,
                               weights_gradient_.bind(context_.gradient(node_, 0), behind(descriptor, scratch), false)},
                              {DNNL_ARG_SCRATCHPAD, at(descriptor.scratchpad_desc(), engine, scratch)}};
        if (shape_.conv.bias)
            weights_arguments_.emplace(DNNL_ARG_DIFF_BIAS,
                                       at(descriptor.diff_bias_desc(), engine, context_.gradient(node_, 1)));
        weights_primitive_ = dnnl::convolution_backward_weights(descriptor);
    }

    void bind_data(const float* dy, float* dx, std::byte* scratch) {
        const auto& descriptor = data_->descriptor;
        const dnnl::engine& engine = context_.engine;
        data_arguments_ = {
            {DNNL_ARG_DIFF_SRC, at(descriptor.diff_src_desc(), engine, dx)},
            {DNNL_ARG_DIFF_DST, at(descriptor.diff_dst_desc(), engine, dy)},
            {DNNL_ARG_WEIGHTS, data_weights_.bind(context_.values(node_, 0), behind(descriptor, scratch), true)},
            {DNNL_ARG_SCRATCHPAD, at(descriptor.scratchpad_desc(), engine, scratch)}};
        data_primitive_ = dnnl::convolution_backward_data(descriptor);
    }

    void gather() const {
        rows_.for_chunks([&](const Blocks::Chunk& chunk, int) {
            gradient_rows_.copy_rows(chunk.first, chunk.end - chunk.first,
                                     gathered_rows_ + chunk.first * rows_.channels());
        });
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

    struct Pass {
        WeightFormat weights;
        std::unordered_map<int, memory> arguments;
    };
    std::vector<Pass> passes_; ///< the first and, where it is done again, the second

    bool has_backward_ = false;
    RowReader gradient_rows_;
    float* gathered_rows_ = nullptr; ///< where the terms are added up, unless they are one dense array
};

} // namespace

std::unique_ptr<TrainingStep> make_convolution_step(const TrainingContext& context, NodeId id) {
    return std::make_unique<ConvolutionTraining>(context, id);
}

} // namespace mfres::onednn
