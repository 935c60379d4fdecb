#include "backends/onednn/convolution.h"

#include "backends/onednn/loops.h"
#include "backends/onednn/threads.h"
#include "backends/onednn/vector_loops.h"

#include <algorithm>
#include <optional>
#include <unordered_map>

namespace mfres::onednn {

namespace {

using dnnl::memory;

ConvolutionShape shape_of(const ConvolutionStep& step) {
    return {step.conv, step.in, step.out};
}

/// Formulations worth asking for, cheapest first.
std::vector<Formulation> formulations(const ConvolutionStep& step) {
    std::vector<bool> residual_copies = {false};
    if (step.residual && !step.residual_in_output)
        residual_copies.push_back(true);
    std::vector<Formulation> all;
    for (const bool padded : {false, true}) {
        if (padded && (step.conv.padding[2] == 0 || step.reduction))
            continue;
        for (Formulation form : grouping_formulations(shape_of(step)))
            for (const bool copied : residual_copies) {
                form.padded_copy = padded;
                form.residual_copy = copied;
                all.push_back(form);
            }
    }
    return all;
}

OperandTypes types_of(const ConvolutionStep& step) {
    if (!step.reduction)
        return {};
    const LowPrecision& reduction = *step.reduction;
    const auto weights = reduction.source.integer() ? memory::data_type::s8 : reduction.source.type;
    return {reduction.source.type, weights, reduction.output.type};
}

/// ", int8" where operands are reduced.
std::string reduction_note(const std::optional<LowPrecision>& reduction) {
    if (!reduction)
        return "";
    std::string name = reduction->source.integer() ? ", int8" : ", bf16";
    if (reduction->source_is_there)
        name += " in";
    if (reduction->output.reduced())
        name += reduction->source_is_there ? " and out" : " out";
    return name;
}

/// A kernel that oneDNN offers, and the formulation that it is for.
struct Choice {
    Formulation form;
    dnnl::convolution_forward::primitive_desc descriptor;
    Speed speed = Speed::naive;
};

bool adds_from_elsewhere(const ConvolutionStep& step, const Formulation& form) {
    return step.residual && !step.residual_in_output && !form.residual_copy;
}

dnnl::primitive_attr attributes(const ConvolutionStep& step, const Formulation& form, const memory::desc& destination,
                                const std::vector<float>& scales) {
    dnnl::post_ops operations;
    if (adds_from_elsewhere(step, form))
        operations.append_binary(dnnl::algorithm::binary_add, destination);
    else if (step.residual)
        operations.append_sum(1.0F);
    append_activation(operations, step.activation);
    dnnl::primitive_attr attributes;
    attributes.set_post_ops(operations);
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (!scales.empty())
        set_channel_scales(attributes, scales, step.conv.groups / form.merged_groups > 1);
    return attributes;
}

/// Takes the first formulation with a compiled kernel, or the best there is. What oneDNN rejects is passed over;
/// if it rejects everything, its reason for the plain formulation is thrown.
Choice choose(const ConvolutionStep& step, const std::vector<float>& scales, const dnnl::engine& engine) {
    std::optional<Choice> best;
    std::optional<dnnl::error> rejection;
    for (const Formulation& form : formulations(step)) {
        try {
            const ConvolutionGeometry g = geometry(shape_of(step), form, types_of(step));
            auto descriptor = describe(g, attributes(step, form, g.destination, scales), engine);
            const Speed speed = speed_of(descriptor.impl_info_str());
            // The gemm kernels of 2.6.3 give wrong sums with a whole tensor as binary operand.
            const bool wrong = speed == Speed::gemm && adds_from_elsewhere(step, form);
            if (wrong || (best && speed >= best->speed))
                continue;
            best = Choice{form, std::move(descriptor), speed};
            if (speed == Speed::compiled)
                break;
        } catch (const dnnl::error& error) {
            if (!rejection)
                rejection = error;
        }
    }
    if (!best)
        throw rejection.value_or(dnnl::error(dnnl_unimplemented, "there is no usable kernel for this convolution"));
    return std::move(*best);
}

/// The source rounded as the step's reduction says.
void reduce_source(const ConvolutionStep& step, const float* x, std::byte* y) {
    const Storage& storage = step.reduction->source;
    const VectorLoops& loops = vector_loops();
    parallel_for(step.in.elements(), Domain{step.in, step.threads}.useful_threads(),
                 [&](std::int64_t begin, std::int64_t end, int) {
                     if (storage.integer())
                         loops.to_bytes(end - begin, storage.quantizer, x + begin,
                                        reinterpret_cast<std::uint8_t*>(y) + begin);
                     else
                         loops.to_bf16(end - begin, x + begin, reinterpret_cast<std::uint16_t*>(y) + begin);
                 });
}

std::int64_t rounded_up(std::int64_t bytes) {
    return (bytes + 63) / 64 * 64;
}

std::int64_t bytes_of(memory::data_type type) {
    return static_cast<std::int64_t>(memory::data_type_size(type));
}

class Convolution final : public Operation {
  public:
    Convolution(const ConvolutionStep& step, const dnnl::engine& engine)
        : step_(step), engine_(engine), types_(types_of(step)) {
        prepare_constants();
        Choice choice = choose(step_, scales_, engine_);
        form_ = choice.form;
        descriptor_ = std::move(choice.descriptor);
        cut();
        reorder_weights();
        step_.weights = step_.bias = nullptr; // theirs may go now
    }

    std::string implementation() const override {
        return descriptor_.impl_info_str() + describe(form_) + reduction_note(step_.reduction);
    }

    std::int64_t scratch_bytes() const override {
        return part_scratch_bytes_ * parts() + (form_.padded_copy || rounds_source() ? source_bytes() : 0);
    }

    std::int64_t constant_bytes() const override {
        return weight_bytes_ + static_cast<std::int64_t>((bias_.size() + scales_.size()) * sizeof(float));
    }

    void bind(const Place& place) override {
        place_ = place;
        std::byte* copy = place.scratch + part_scratch_bytes_ * parts();
        padded_ = form_.padded_copy ? reinterpret_cast<float*>(copy) : nullptr;
        rounded_ = rounds_source() ? copy : nullptr;
        const auto at = [&](const memory::desc& desc, const void* data, std::int64_t bytes = 0) {
            const auto* from = static_cast<const std::byte*>(data) + bytes;
            return memory(desc, engine_, const_cast<std::byte*>(from)); // oneDNN has no memory of const
        };
        const void* source = padded_ || rounded_ ? static_cast<const void*>(copy) : place.inputs[0];
        const std::int64_t margins = padded_ ? 2 * step_.conv.padding[2] : 0;
        const std::int64_t in_plane = step_.in[3] * (step_.in[4] + margins) * step_.in[1] * bytes_of(types_.source);
        const std::int64_t out_plane = step_.out[3] * step_.out[4] * step_.out[1] * bytes_of(types_.destination);
        for (std::int64_t sample = 0; sample < samples_; ++sample)
            for (const Slab& slab : slabs_) {
                const auto& descriptor = slab.descriptor;
                const std::int64_t in = (sample * step_.in[2] + slab.in_begin) * in_plane;
                const std::int64_t out = (sample * step_.out[2] + slab.out_begin) * out_plane;
                std::byte* const scratch =
                    place.scratch + part_scratch_bytes_ * static_cast<std::int64_t>(runs_.size());
                PartRun& run = runs_.emplace_back();
                run.primitive = slab.primitive;
                run.stream = dnnl::stream(engine_);
                run.arguments = {{DNNL_ARG_SRC, at(descriptor.src_desc(), source, in)},
                                 {DNNL_ARG_WEIGHTS, slab.weights},
                                 {DNNL_ARG_BIAS, at(descriptor.bias_desc(), bias_.data())},
                                 {DNNL_ARG_DST, at(descriptor.dst_desc(), place.output, out)},
                                 {DNNL_ARG_SCRATCHPAD, at(descriptor.scratchpad_desc(), scratch)}};
                if (!scales_.empty())
                    add_channel_scales(run.arguments, scales_, engine_);
                if (adds_from_elsewhere(step_, form_))
                    run.arguments.emplace(DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1,
                                          at(descriptor.dst_desc(), place.residual, out));
            }
    }

    void run(dnnl::stream&) override {
        if (rounded_)
            reduce_source(step_, place_.inputs[0], rounded_);
        if (padded_)
            pad_z({step_.in, step_.threads}, place_.inputs[0], step_.conv.padding[2], padded_);
        if (form_.residual_copy)
            copy_values({step_.out, step_.threads}, place_.residual, place_.output);
        run_parts(static_cast<int>(runs_.size()), [this](int part) {
            PartRun& run = runs_[static_cast<std::size_t>(part)];
            run.primitive.execute(run.stream, run.arguments);
            run.stream.wait();
        });
    }

  private:
    /// Planes [out_begin, ...) of the output, from planes [in_begin, ...) of the input.
    struct Slab {
        std::int64_t in_begin = 0, out_begin = 0;
        dnnl::convolution_forward::primitive_desc descriptor;
        dnnl::convolution_forward primitive;
        memory weights; ///< may be another slab's, too
    };

    struct PartRun {
        dnnl::convolution_forward primitive;
        dnnl::stream stream;
        std::unordered_map<int, memory> arguments;
    };

    bool rounds_source() const { return step_.reduction && !step_.reduction->source_is_there; }

    /// Bias, and for integers weights and scales, in the units that the kernel works in.
    void prepare_constants() {
        const auto channels = static_cast<std::size_t>(step_.conv.out_channels);
        bias_.assign(channels, 0.0F);
        if (step_.bias)
            std::copy_n(step_.bias->data(), step_.conv.out_channels, bias_.begin());
        plain_.assign(step_.weights->values().begin(), step_.weights->values().end());
        if (!step_.reduction || !step_.reduction->source.integer())
            return;
        const LowPrecision& reduction = *step_.reduction;
        const QuantizedWeights quantized = quantize_weights(*step_.weights, reduction.largest);
        plain_.assign(quantized.values.begin(), quantized.values.end());
        const float steps_per_unit = reduction.output.integer() ? reduction.output.quantizer.inverse : 1.0F;
        for (std::size_t c = 0; c < channels; ++c) {
            scales_.push_back(quantized.scales[c] * reduction.source.quantizer.scale * steps_per_unit);
            bias_[c] = bias_before_scale(bias_[c] * steps_per_unit, scales_[c]);
        }
    }

    /// Cuts the output into slabs of planes of constant x, each a convolution of its own that one thread computes: what
    /// it reads of its neighbours is read where it lies, and only the outermost are padded. A sample is never shared.
    void cut() {
        samples_ = step_.threads > 1 && !form_.planes ? step_.out[0] : 1;
        const std::int64_t extent = form_.planes ? step_.out[0] * step_.out[2] : step_.out[2];
        // Long convolutions are cut finer: a thread that the system puts aside then delays less.
        constexpr std::int64_t part_macs = 64'000'000;
        const std::int64_t macs = step_.weights->elements() * (step_.out.elements() / step_.out[1] / samples_);
        const std::int64_t rounds =
            step_.threads == 1 ? 1 : std::clamp<std::int64_t>(macs / part_macs / step_.threads, 1, 4);
        const std::int64_t count =
            std::clamp<std::int64_t>((step_.threads * rounds + samples_ - 1) / samples_, 1, extent);
        for (std::int64_t n = 0; n < count; ++n)
            slabs_.push_back(slab(extent * n / count, extent * (n + 1) / count));
        for (const Slab& each : slabs_)
            part_scratch_bytes_ =
                std::max(part_scratch_bytes_,
                         rounded_up(static_cast<std::int64_t>(each.descriptor.scratchpad_desc().get_size())));
    }

    Slab slab(std::int64_t begin, std::int64_t end) const {
        Slab made;
        made.out_begin = begin;
        ConvolutionShape shape = shape_of(step_);
        if (samples_ == 1 && !form_.planes && step_.threads == 1) { // all samples at once
            made.descriptor = descriptor_;
        } else if (form_.planes) {
            made.in_begin = begin; // a batch of planes
            shape.in[0] = shape.out[0] = 1;
            shape.in[2] = shape.out[2] = end - begin;
            const ConvolutionGeometry g = geometry(shape, form_, types_);
            made.descriptor = describe(g, attributes(step_, form_, g.destination, scales_), engine_);
        } else {
            const Conv& conv = step_.conv;
            const std::int64_t reach = conv.dilation[0] * (conv.kernel[0] - 1);
            const std::int64_t first = begin * conv.stride[0] - conv.padding[0];
            const std::int64_t last = (end - 1) * conv.stride[0] - conv.padding[0] + reach;
            made.in_begin = std::max<std::int64_t>(first, 0);
            const std::int64_t in_end = std::min(last + 1, step_.in[2]);
            shape.in[0] = shape.out[0] = 1;
            shape.in[2] = in_end - made.in_begin;
            shape.out[2] = end - begin;
            ConvolutionGeometry g = geometry(shape, form_, types_);
            g.padding_low[0] = made.in_begin - first;
            g.padding_high[0] = last + 1 - in_end;
            made.descriptor = describe(g, attributes(step_, form_, g.destination, scales_), engine_);
        }
        made.primitive = dnnl::convolution_forward(made.descriptor);
        return made;
    }

    void reorder_weights() {
        if (form_.merged_groups > 1) {
            AlignedVector<float> merged(
                static_cast<std::size_t>(merged_weight_count(shape_of(step_), form_.merged_groups)));
            merge_groups(shape_of(step_), form_.merged_groups, plain_.data(), merged.data());
            plain_ = std::move(merged);
        }
        memory from(plain_weights(weight_dims(shape_of(step_), form_)), engine_, plain_.data());
        dnnl::stream stream(engine_);
        for (Slab& slab : slabs_) {
            // All slabs share the weights of the first that wants them in its format: as a rule that is one.
            const memory::desc wanted = slab.descriptor.weights_desc();
            const auto same = std::find_if(slabs_.begin(), slabs_.end(), [&](const Slab& other) {
                return other.weights && other.weights.get_desc() == wanted;
            });
            if (same != slabs_.end()) {
                slab.weights = same->weights;
                continue;
            }
            slab.weights = memory(wanted, engine_);
            dnnl::reorder(from, slab.weights).execute(stream, from, slab.weights);
            stream.wait();
            weight_bytes_ += static_cast<std::int64_t>(wanted.get_size());
        }
        AlignedVector<float>().swap(plain_);
    }

    std::int64_t parts() const { return samples_ * std::ssize(slabs_); }

    std::int64_t source_bytes() const {
        return rounded_up(static_cast<std::int64_t>(descriptor_.src_desc().get_size()));
    }

    ConvolutionStep step_;
    dnnl::engine engine_;
    OperandTypes types_;
    Formulation form_;
    dnnl::convolution_forward::primitive_desc descriptor_; ///< of all at once
    std::int64_t samples_ = 1;                             ///< that are convolved one by one
    std::vector<Slab> slabs_;                              ///< of a sample
    std::int64_t part_scratch_bytes_ = 0;
    std::int64_t weight_bytes_ = 0;
    AlignedVector<float> plain_; ///< the weights in plain order, until the kernels have their own
    AlignedVector<float> bias_;
    std::vector<float> scales_; ///< of integers, per output channel
    Place place_;
    float* padded_ = nullptr;
    std::byte* rounded_ = nullptr;
    std::vector<PartRun> runs_; ///< slabs of one sample after the other
};

} // namespace

std::unique_ptr<Operation> make_convolution(const ConvolutionStep& step, const dnnl::engine& engine) {
    return std::make_unique<Convolution>(step, engine);
}

bool has_compiled_kernel(const ConvolutionStep& step, const dnnl::engine& engine) {
    try {
        std::vector<float> scales;
        if (step.reduction && step.reduction->source.integer())
            scales.assign(static_cast<std::size_t>(step.conv.out_channels), 1.0F);
        return choose(step, scales, engine).speed == Speed::compiled;
    } catch (const dnnl::error&) {
        return false;
    }
}

} // namespace mfres::onednn
