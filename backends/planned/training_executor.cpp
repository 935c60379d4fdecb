// SPDX-License-Identifier: MIT
#include "backends/planned/training_executor.h"

#include "backends/distributed/data_parallel.h"
#include "backends/planned/rematerialization.h"
#include "core/try.h"

#include <algorithm>
#include <utility>

namespace mfres {

namespace {

class PlannedTraining final : public TrainingExecutable {
  public:
    PlannedTraining(std::unique_ptr<TrainingEngine> engine, const Graph& graph, const TrainingOptions& options)
        : engine_(std::move(engine)), options_(options), network_{graph,
                                                                  fuse_training_ops(graph, engine_->fusion_rules()),
                                                                  values_with_gradient(graph),
                                                                  ranks_of(options),
                                                                  options.batch_norm_momentum,
                                                                  NormStatistics::batch,
                                                                  LossScale(options.precision)} {}

    Status compile() {
        return entered([&]() -> Status {
            MFRES_CHECK(guarded("(all)", [&] { engine_->begin(network_); }));
            MFRES_CHECK(make_ops());
            const std::int64_t other = engine_->other_bytes() + constant_bytes_;
            const TrainingSchedule schedule = make_schedule(other);
            MFRES_CHECK(check_training_memory(engine_->name(), other + schedule.bytes,
                                              other + schedule.bytes_without_recomputation, options_));
            block_bytes_ = schedule.bytes;
            recomputation_ = {schedule.recomputed_ops, schedule.recomputed_macs};
            backward_ = schedule.backward;
            find_complete_gradients();
            MFRES_CHECK(allocate());
            gradient_sum_ = GradientSum(
                network_.graph, engine_->parameters(), options_,
                [this](std::size_t begin, std::size_t end) { return engine_->start_gradient_sum(begin, end); },
                [this] { return engine_->finish_gradient_sums(); });
            return bind(schedule);
        });
    }

    bool cuts_crops() const override { return engine_->cuts_crops(); }

    Status start_crops(std::span<const CropRequest> crops) override {
        if (!cuts_crops())
            return TrainingExecutable::start_crops(crops);
        const std::int64_t samples = network_.input_shape()[0];
        if (static_cast<std::int64_t>(crops.size()) != samples)
            return Error{ErrorCode::invalid_argument,
                         text("there are ", crops.size(), " crops for a batch of ", samples), "crops"};
        MFRES_CHECK(run("crops", [&] { engine_->plan_crops(crops); }));
        MFRES_CHECK(check_training_memory(engine_->name(), peak_bytes(), 0, options_));
        return run("crops", [&] { engine_->start_crops(crops); });
    }

    Status take_crops() override {
        MFRES_CHECK(run("crops", [&] { engine_->take_crops(); }));
        has_crop_classes_ = true;
        return {};
    }

    StridedView<float> input() override { return engine_->input(); }

    Status forward(NormStatistics statistics) override {
        network_.statistics = statistics;
        return entered([&]() -> Status {
            MFRES_CHECK(guarded("input", [&] { engine_->start_forward(); }));
            MFRES_CHECK(run_pass(TrainingPass::forward));
            return guarded("output", [&] { engine_->finish_forward(); });
        });
    }

    std::size_t outputs() const override { return network_.graph.outputs().size(); }
    StridedView<const float> output(std::size_t index) const override { return engine_->output(index); }
    StridedView<float> output_gradient(std::size_t index) override { return engine_->output_gradient(index); }

    Result<StridedView<float>> targets() override {
        MFRES_CHECK(run("targets", [&] { engine_->allocate_targets(); }));
        return engine_->targets();
    }

    Result<double> loss(std::span<const std::uint8_t> classes, const Loss& loss) override {
        MFRES_CHECK(check_output_weights(loss, outputs()));
        MFRES_CHECK(check_channels(loss.outputs, network_.output_shape(0)));
        const bool of_crops = classes.empty() && has_crop_classes_;
        if (!of_crops)
            MFRES_CHECK(check_classes(classes, network_.output_shape(0), loss.outputs));
        has_crop_classes_ = of_crops;
        double value = 0.0;
        const Status computed = entered([&]() -> Status {
            if (!of_crops)
                MFRES_CHECK(guarded("loss", [&] { engine_->set_classes(classes); }));
            MFRES_TRY(value, sum_over_outputs(loss, outputs(),
                                              [&](std::size_t k, const Loss& own) { return loss_of(k, own); }));
            return {};
        });
        if (!computed)
            return computed.error();
        return value;
    }

    Status backward() override {
        return entered([&]() -> Status {
            MFRES_CHECK(guarded("output", [&] { engine_->start_backward(); }));
            return run_pass(TrainingPass::backward);
        });
    }

    Weights gradients() const override { return engine_->parameters().gradients(network_.scale.value()); }

    Result<double> update(const OptimiserStep& step) override {
        Result<double> norm = 0.0;
        MFRES_CHECK(run("update", [&] { norm = update_parameters(engine_->parameters(), step, network_.scale); }));
        return norm;
    }

    Weights weights() const override { return engine_->parameters().weights(); }

    TrainingState state() const override {
        TrainingState state = engine_->parameters().state();
        state.loss_scaling = network_.scale.state();
        return state;
    }

    Status set_state(const TrainingState& state) override {
        if (state.loss_scaling)
            MFRES_CHECK(check_loss_scaling(*state.loss_scaling));
        Status set;
        MFRES_CHECK(run("state", [&] { set = engine_->parameters().set_state(state); }));
        if (set)
            network_.scale.set(state.loss_scaling);
        return set;
    }

    std::int64_t peak_bytes() const override { return block_bytes_ + constant_bytes_ + engine_->other_bytes(); }
    Recomputation recomputation() const override { return recomputation_; }

    std::vector<std::string> warnings() const override { return engine_->warnings(); }

    std::vector<Chosen> chosen() const override {
        std::vector<Chosen> all;
        for (std::size_t i = 0; i < ops_.size(); ++i)
            if (ops_[i])
                all.push_back({node(i), describe(network_.graph, network_.ops[i]), ops_[i]->forward_implementation()});
        for (const auto& [op, recompute] : backward_)
            all.push_back({node(op),
                           describe(network_.graph, network_.ops[op]) + (recompute ? " again" : " backward"),
                           recompute ? ops_[op]->forward_implementation() : ops_[op]->backward_implementation(),
                           {}});
        if (const std::string sums = engine_->sums_implementation(); !sums.empty() && !network_.ranks.alone())
            all.push_back({"(all)", "sums over ranks", sums});
        return all;
    }

  private:
    const std::string& node(std::size_t op) const { return network_.graph.node(network_.ops[op].node).name; }

    Status guarded(const std::string& node, const std::function<void()>& body) const {
        return engine_->guarded(node, body);
    }

    /// Work of this rank. After an error it does not wait for collectives that other ranks have not entered.
    Status entered(const std::function<Status()>& body) const {
        Status done = engine_->enter(body);
        if (!done)
            engine_->abandon();
        return done;
    }

    Status run(const std::string& node, const std::function<void()>& body) const {
        return entered([&] { return guarded(node, body); });
    }

    Status make_ops() {
        for (std::size_t i = 0; i < network_.ops.size(); ++i) {
            MFRES_CHECK(guarded(node(i), [&] { ops_.push_back(make_op(network_.ops[i])); }));
            if (ops_[i])
                constant_bytes_ += ops_[i]->constant_bytes();
        }
        return {};
    }

    /// Null for an op that computes nothing.
    std::unique_ptr<TrainingOp> make_op(const FusedTrainingOp& op) const {
        switch (op.kind) {
        case FusedTrainingOp::Kind::convolution: return engine_->make_convolution(op.results());
        case FusedTrainingOp::Kind::sum: return engine_->make_sum(op.sum);
        case FusedTrainingOp::Kind::copy: return engine_->make_copy(op.node);
        case FusedTrainingOp::Kind::slice_in_place: return nullptr;
        case FusedTrainingOp::Kind::resampling: return engine_->make_resampling(op.node);
        }
        return nullptr;
    }

    /// `other`: bytes besides the block.
    TrainingSchedule make_schedule(std::int64_t other) const {
        std::vector<OpWorkspace> workspaces;
        for (const auto& op : ops_)
            workspaces.push_back(op ? op->workspace() : OpWorkspace());
        const ScheduleRules rules{engine_->value_bytes(), engine_->loss_workspace_bytes(), engine_->concat_in_place()};
        const std::int64_t cap = options_.memory_cap;
        const std::int64_t limit = cap > 0 ? std::max<std::int64_t>(1, cap - other) : 0;
        return rematerialize(network_.graph, network_.ops, workspaces, rules, limit);
    }

    /// The parameters of all nodes behind the main node of an op belong to this op or to a later one, or to convolutions
    /// that are joined with an earlier one.
    void find_complete_gradients() {
        NodeId joined_end = 0;
        for (const FusedTrainingOp& op : network_.ops) {
            complete_from_.push_back(std::max(op.node, joined_end));
            if (!op.joined.empty())
                joined_end = std::max(joined_end, op.joined.back() + 1);
        }
    }

    Status allocate() const {
        Status allocated = guarded("(all)", [&] { engine_->allocate(block_bytes_); });
        if (!allocated && allocated.error().code == ErrorCode::memory_limit)
            return Error{ErrorCode::memory_limit,
                         text("training with the ", engine_->name(), " backend needs ", block_bytes_,
                              " bytes for activations and gradients and could not allocate them"),
                         {}};
        return allocated;
    }

    Status bind(const TrainingSchedule& schedule) const {
        const ArrayPlacement placement{schedule.plan, engine_->block()};
        for (std::size_t i = 0; i < ops_.size(); ++i)
            if (ops_[i])
                MFRES_CHECK(guarded(node(i), [&] { ops_[i]->bind(placement, schedule.ops[i]); }));
        return guarded("(all)", [&] {
            engine_->bind(
                {placement, schedule.input, schedule.outputs, schedule.output_gradients, schedule.loss_workspace});
        });
    }

    Status run_pass(TrainingPass pass) {
        if (!engine_->records())
            return run_ops(pass);
        return guarded("(all)",
                       [&] { engine_->run_all(pass, network_.statistics, [this, pass] { require(run_ops(pass)); }); });
    }

    Status run_ops(TrainingPass pass) {
        switch (pass) {
        case TrainingPass::forward: return run_forward_ops();
        case TrainingPass::backward: return run_backward_ops();
        }
        return {};
    }

    Status run_forward_ops() const {
        MFRES_CHECK(guarded("input", [&] { engine_->convert_input(); }));
        for (std::size_t i = 0; i < ops_.size(); ++i)
            if (ops_[i])
                MFRES_CHECK(guarded(node(i), [&] { ops_[i]->forward(false); }));
        return {};
    }

    Status run_backward_ops() {
        gradient_sum_.begin();
        for (const ScheduledOp& scheduled : backward_) {
            TrainingOp& op = *ops_[scheduled.op];
            MFRES_CHECK(guarded(node(scheduled.op), [&] { scheduled.recompute ? op.forward(true) : op.backward(); }));
            if (!scheduled.recompute)
                MFRES_CHECK(gradient_sum_.finished(complete_from_[scheduled.op]));
        }
        MFRES_CHECK(guarded("(all)", [&] { engine_->finish_backward(); }));
        return gradient_sum_.finish();
    }

    Result<double> loss_of(std::size_t output, const Loss& loss) {
        LossTerms terms(loss, network_.output_shape(output), network_.ranks);
        MFRES_CHECK(guarded("loss", [&] {
            if (terms.has_distillation())
                engine_->allocate_targets();
            engine_->start_loss(output, terms);
        }));
        if (terms.has_overlap()) {
            std::vector<ClassSums> sums;
            MFRES_CHECK(guarded("loss", [&] { sums = engine_->class_sums(output, terms); }));
            MFRES_CHECK(terms.take_sums(std::move(sums), engine_->sums_classes_over_ranks()));
        }
        if (terms.chooses())
            MFRES_CHECK(terms.choose<float>([&](std::uint64_t prefix, int shift, std::span<double> counts) {
                return guarded("loss", [&] { engine_->count_digits(output, terms, prefix, shift, counts); });
            }));
        VoxelSums sums;
        MFRES_CHECK(guarded("loss", [&] { sums = engine_->loss_gradient(output, terms); }));
        return terms.value(sums);
    }

    std::unique_ptr<TrainingEngine> engine_; // first: ops and arrays are its
    TrainingOptions options_;
    TrainingNetwork network_;
    std::vector<std::unique_ptr<TrainingOp>> ops_; ///< null for slices in place
    std::vector<ScheduledOp> backward_;
    /// By op: after its backward op the gradients of the parameters of this node and of all behind it are complete.
    std::vector<NodeId> complete_from_;
    GradientSum gradient_sum_;
    Recomputation recomputation_;
    std::int64_t block_bytes_ = 0, constant_bytes_ = 0;
    bool has_crop_classes_ = false; ///< the classes of the last loss, or of the next one, are those of crops
};

} // namespace

Result<std::unique_ptr<TrainingExecutable>>
compile_planned_training(std::unique_ptr<TrainingEngine> engine, const Graph& graph, const TrainingOptions& options) {
    auto training = std::make_unique<PlannedTraining>(std::move(engine), graph, options);
    MFRES_CHECK(training->compile());
    return std::unique_ptr<TrainingExecutable>(std::move(training));
}

} // namespace mfres
