// SPDX-License-Identifier: MIT
#include "backends/kernels/fusion_group.h"

#include "backends/kernels/line_kernels.h"
#include "backends/kernels/pair_kernels.h"
#include "backends/kernels/resample.h"
#include "backends/kernels/row_convolution.h"
#include "backends/kernels/slots.h"
#include "backends/kernels/threads.h"
#include "backends/kernels/winograd_kernels.h"
#include "core/rounding.h"

#include <algorithm>
#include <utility>

namespace mfres::kernels {

namespace {

/// Largest size of the buffers of a tile: an L2 cache of 2 MiB without the part that weights and arrays outside need.
/// 1 MiB was not faster: the tiles are then narrower, and their halos cost what is saved.
constexpr std::int64_t max_tile_bytes = 3 << 19;
/// Narrower tiles would compute more halo than tile.
constexpr std::int64_t min_tile = 8;

/// One channel of a value in a buffer: a row of floats along z.
struct Row {
    int buffer = -1;
    std::int64_t channel = 0;
};

/// Consecutive channels of a value in a buffer.
struct Rows {
    std::size_t buffer = 0;
    std::int64_t channel = 0;
    std::int64_t count = 0;
};

/// The same rows in fewer pieces.
std::vector<Rows> joined(const std::vector<Row>& rows) {
    std::vector<Rows> pieces;
    for (const Row& row : rows) {
        const auto buffer = static_cast<std::size_t>(row.buffer);
        if (!pieces.empty() && pieces.back().buffer == buffer &&
            pieces.back().channel + pieces.back().count == row.channel)
            ++pieces.back().count;
        else
            pieces.push_back({buffer, row.channel, 1});
    }
    return pieces;
}

/// When and where in a tile a stage runs.
struct Schedule {
    std::int64_t delay = 0; ///< lines along y behind the first stage
    std::int64_t halo = 0;  ///< voxels along x beyond the tile

    friend bool operator==(const Schedule& a, const Schedule& b) { return a.delay == b.delay && a.halo == b.halo; }
};

/// How many voxels along x, y and z beyond those needed of the group's output a stage computes: their distance through
/// the kernels in between.
using Reach = LineSpans::Size;

/// The memory of the value of a stage: a line buffer of `depth` lines along y with all x of the tile, or only the `depth`
/// z-lines that are being computed.
struct Buffer {
    Schedule schedule;
    std::int64_t channels = 0;
    std::size_t phase = 0;
    bool is_line_buffer = false;
    std::int64_t depth = 1;
    std::int64_t width = 1;  ///< of a line buffer: of the tile with its halo
    std::int64_t offset = 0; ///< floats from the start of the memory of a thread
    /// By y: floats from the start to the line, at the first x of the tile with its halo.
    std::vector<std::int64_t> line_offsets;
};

struct Stage {
    enum class Kind : std::uint8_t { load, upsample, convolve, add, store };
    Kind kind = Kind::load;
    Schedule schedule;
    std::size_t reach = 0;                       ///< index into Pipeline::reaches
    std::vector<Row> inputs;                     ///< the channels of all operands
    std::vector<Row> residual;                   ///< one per channel of the output, or none
    std::vector<Rows> input_rows, residual_rows; ///< the same
    int buffer = -1;                             ///< of the output; none for a store
    int packed = -1;                             ///< the output in pairs of channels, where it is read so
    std::int64_t channels = 0;                   ///< of the output
    bool pairs = false;                          ///< of a convolution: inputs and weights are pairs in bf16
    /// A convolution that computes the lines of a phase together by Winograd's filtering along y (winograd_kernels.h). Its
    /// weights are [product][weights of a kernel of one line].
    bool winograd = false;
    Activation activation;
    std::int64_t radius_x = 0, radius_y = 0; ///< of a convolution
    bool three_along_z = false;
    std::vector<float> weights, bias;
    std::vector<float> zeros;        ///< of Winograd's products, which have no bias
    const Tensor* kernel = nullptr;  ///< of a convolution, while the pipeline is built
    std::size_t array = 0;           ///< of a load or upsampling: which input of the group
    std::int64_t array_channels = 0; ///< its channels,
    std::int64_t array_begin = 0;    ///< and the first one to load
    Shape array_shape;               ///< of the operand of an upsampling
};

/// Consecutive stages with one schedule: they run one after the other for each z-line.
struct Phase {
    Schedule schedule;
    std::vector<Stage> stages;
    /// z-lines along y that each stage computes before the next one runs. The phase runs when the last of them may.
    std::int64_t lines = 1;
};

/// A fusion group as it is run.
struct Pipeline {
    Shape grid; ///< of the output
    std::vector<Phase> phases;
    std::vector<Buffer> buffers;
    std::vector<Reach> reaches;
    std::int64_t stride = 0; ///< floats from row to row
    std::int64_t tile = 0;   ///< extent along x
    std::int64_t tiles = 0;
    std::int64_t max_delay = 0;
    std::int64_t max_pointers = 0;                      ///< of a stage
    std::int64_t zero_row = 0, blend = 0, low_rows = 0; ///< offsets in the memory of a thread
    std::int64_t winograd_rows = 0;                     ///< the same: transformed inputs, then products
    std::int64_t thread_floats = 0;
    std::int64_t constant_floats = 0;
};

class PipelineBuilder {
  public:
    PipelineBuilder(const PlannedNetwork& planned, int threads, const FusionGroup& group, bool bf16)
        : graph_(planned.network.graph), planned_(planned), threads_(threads), group_(group), bf16_(bf16),
          outside_(values_read(graph_, planned.ranges, group)), rows_(static_cast<std::size_t>(graph_.size())),
          schedules_(rows_.size()), reaches_(rows_.size()), inside_(rows_.size(), false) {}

    Pipeline build() {
        for (const FusedOp& op : group_.ops)
            inside_[static_cast<std::size_t>(op.output)] = true;
        schedule_ops();
        find_reaches();
        for (const FusedOp& op : group_.ops)
            add_op(op);
        Stage store = stage(Stage::Kind::store, schedule_of(group_.output()), reach_of(group_.output()));
        store.inputs = rows_[static_cast<std::size_t>(group_.output())];
        store.channels = graph_.node(group_.output()).shape[1];
        stages_.push_back(std::move(store));
        form_phases();
        choose_winograd();
        choose_line_buffers();
        lay_out();
        return std::move(pipeline_);
    }

  private:
    Stage stage(Stage::Kind kind, const Schedule& schedule, const Reach& reach) {
        Stage made;
        made.kind = kind;
        made.schedule = schedule;
        const auto known = std::find(pipeline_.reaches.begin(), pipeline_.reaches.end(), reach);
        made.reach = static_cast<std::size_t>(known - pipeline_.reaches.begin());
        if (known == pipeline_.reaches.end())
            pipeline_.reaches.push_back(reach);
        return made;
    }

    const Node& main(const FusedOp& op) const { return graph_.node(op.main); }
    const ChannelRange& range_of(NodeId node) const { return planned_.ranges[static_cast<std::size_t>(node)]; }
    const Tensor& parameter(const Node& node, std::size_t index) const {
        return planned_.network.weights.find(node.parameters[index].name)->second;
    }
    bool is_inside(NodeId value) const { return inside_[static_cast<std::size_t>(value)]; }
    Schedule& schedule_of(NodeId value) { return schedules_[static_cast<std::size_t>(value)]; }
    Reach& reach_of(NodeId value) { return reaches_[static_cast<std::size_t>(value)]; }

    static std::int64_t radius(const Node& node, std::size_t axis) {
        return node.kind() == OpKind::conv ? node.as<Conv>().kernel[axis] / 2 : 0;
    }

    /// Calls f(value, lines along y around it) for each value inside the group that an op reads.
    template <typename F>
    void for_inner_reads(const FusedOp& op, const F& f) const {
        for (const NodeId input : main(op).inputs)
            if (const NodeId value = range_of(input).value; is_inside(value))
                f(value, radius(main(op), 1));
        if (op.residual && is_inside(*op.residual))
            f(*op.residual, 0);
    }

    /// Delays are as small as the operands allow. An op that reads nothing inside the group runs as late as its consumers
    /// allow.
    void schedule_ops() {
        for (const FusedOp& op : group_.ops)
            for_inner_reads(op, [&](NodeId value, std::int64_t around) {
                auto& delay = schedule_of(op.output).delay;
                delay = std::max(delay, schedule_of(value).delay + around);
            });
        std::vector<std::int64_t> latest(rows_.size(), schedule_of(group_.output()).delay);
        for (auto op = group_.ops.rbegin(); op != group_.ops.rend(); ++op) {
            const std::int64_t beyond = schedule_of(op->output).halo + radius(main(*op), 0);
            bool reads_inside = false;
            for_inner_reads(*op, [&](NodeId value, std::int64_t) {
                reads_inside = true;
                schedule_of(value).halo = std::max(schedule_of(value).halo, beyond);
            });
            if (!reads_inside)
                schedule_of(op->output).delay = latest[static_cast<std::size_t>(op->output)];
            for_inner_reads(*op, [&](NodeId value, std::int64_t around) {
                auto& last = latest[static_cast<std::size_t>(value)];
                last = std::min(last, schedule_of(op->output).delay - around);
            });
        }
        // Loads run ahead of the ops that read them.
        std::int64_t ahead = 0;
        for (const FusedOp& op : group_.ops)
            ahead = std::max(ahead, radius(main(op), 1) - schedule_of(op.output).delay);
        for (const FusedOp& op : group_.ops)
            schedule_of(op.output).delay += ahead;
    }

    /// Winograd's filtering along y reads the inputs of all lines that it computes together for each of them.
    Reach beyond(Reach reach, const FusedOp& op) const {
        const Node& node = main(op);
        for (std::size_t axis = 0; axis < reach.size(); ++axis)
            reach[axis] += radius(node, axis);
        if (node.kind() == OpKind::conv && gains_by_winograd(parameter(node, 0)))
            reach[1] += winograd_outputs - 1;
        return reach;
    }

    /// Whether a kernel has three voxels along y and z and one along x, and the products that are saved outnumber the
    /// transforms, which take about as long as 26 products for each channel; products of few channels wait for memory as
    /// well.
    static bool gains_by_winograd(const Tensor& kernel) {
        if (spatial(kernel.shape()) != Axes{1, 3, 3})
            return false;
        const auto inputs = static_cast<double>(kernel.shape()[1]);
        const auto outputs = static_cast<double>(kernel.shape()[0]);
        return 18.0 * inputs * outputs + 40.0 * (inputs + outputs) < 0.9 * 36.0 * inputs * outputs;
    }

    void find_reaches() {
        for (auto op = group_.ops.rbegin(); op != group_.ops.rend(); ++op) {
            const auto extend = [&](NodeId value, const Reach& reach) {
                if (!is_inside(value))
                    return;
                for (std::size_t axis = 0; axis < reach.size(); ++axis)
                    reach_of(value)[axis] = std::max(reach_of(value)[axis], reach[axis]);
            };
            const Reach& reach = reach_of(op->output);
            for (const NodeId input : main(*op).inputs)
                extend(range_of(input).value, beyond(reach, *op));
            if (op->residual)
                extend(*op->residual, reach);
        }
    }

    int new_buffer(const Schedule& schedule, std::int64_t channels) {
        Buffer buffer;
        buffer.schedule = schedule;
        buffer.channels = channels;
        pipeline_.buffers.push_back(buffer);
        return static_cast<int>(pipeline_.buffers.size()) - 1;
    }

    std::size_t outside_index(NodeId value) const {
        return static_cast<std::size_t>(std::find(outside_.begin(), outside_.end(), value) - outside_.begin());
    }

    /// The rows of the value of a node; adds a load for a value from outside.
    std::vector<Row> rows_for(NodeId node, const Schedule& reading, const Reach& reach) {
        const ChannelRange& range = range_of(node);
        const std::int64_t channels = graph_.node(node).shape[1];
        if (is_inside(range.value)) {
            const auto& rows = rows_[static_cast<std::size_t>(range.value)];
            return {rows.data() + range.begin, rows.data() + range.begin + channels};
        }
        Stage load = stage(Stage::Kind::load, reading, reach);
        load.channels = channels;
        load.buffer = new_buffer(reading, channels);
        load.array = outside_index(range.value);
        load.array_channels = graph_.node(range.value).shape[1];
        load.array_begin = range.begin;
        auto rows = rows_of(load.buffer, channels);
        stages_.push_back(std::move(load));
        return rows;
    }

    static std::vector<Row> rows_of(int buffer, std::int64_t channels) {
        std::vector<Row> rows;
        for (std::int64_t c = 0; c < channels; ++c)
            rows.push_back({buffer, c});
        return rows;
    }

    void append_inputs(std::vector<Row>& rows, const FusedOp& op, const Schedule& reading) {
        for (const NodeId input : main(op).inputs) {
            const auto more = rows_for(input, reading, beyond(reach_of(op.output), op));
            rows.insert(rows.end(), more.begin(), more.end());
        }
    }

    void add_op(const FusedOp& op) {
        const Node& node = main(op);
        const Schedule schedule = schedule_of(op.output);
        auto& result = rows_[static_cast<std::size_t>(op.output)];
        if (node.kind() == OpKind::concat) {
            append_inputs(result, op, schedule);
            return;
        }
        if (node.kind() == OpKind::slice) {
            const auto all = rows_for(node.inputs[0], schedule, reach_of(op.output));
            result.assign(all.data() + node.as<Slice>().begin, all.data() + node.as<Slice>().end);
            return;
        }
        Stage made = stage(Stage::Kind::add, schedule, reach_of(op.output));
        made.activation = op.activation;
        made.channels = node.shape[1];
        if (node.kind() == OpKind::conv)
            add_convolution(made, op);
        else if (node.kind() == OpKind::upsample)
            add_upsampling(made, node);
        else
            add_sum(made, op);
        if (op.residual)
            made.residual = rows_for(*op.residual, schedule, reach_of(op.output));
        made.buffer = new_buffer(schedule, made.channels);
        result = rows_of(made.buffer, made.channels);
        stages_.push_back(std::move(made));
    }

    void add_convolution(Stage& made, const FusedOp& op) {
        const Node& node = main(op);
        made.kind = Stage::Kind::convolve;
        made.radius_x = radius(node, 0);
        made.radius_y = radius(node, 1);
        made.three_along_z = radius(node, 2) == 1;
        append_inputs(made.inputs, op, {made.schedule.delay - made.radius_y, made.schedule.halo + made.radius_x});
        made.pairs =
            bf16_ && node.inputs[0] != graph_.input() && !graph_.is_output(op.output) && are_pairs(made.inputs);
        if (made.pairs)
            made.inputs = packed_rows(made.inputs);
        made.weights = made.pairs ? packed_pair_weights(parameter(node, 0)) : packed_row_weights(parameter(node, 0), 1);
        made.bias.assign(static_cast<std::size_t>(made.channels), 0.0F);
        if (node.as<Conv>().bias) {
            const auto values = parameter(node, 1).values();
            made.bias.assign(values.begin(), values.end());
        }
        made.kernel = &parameter(node, 0);
    }

    /// Whether rows are even channels with the odd ones behind them.
    static bool are_pairs(const std::vector<Row>& rows) {
        if (rows.size() % 2 != 0)
            return false;
        for (std::size_t i = 0; i < rows.size(); i += 2)
            if (rows[i].channel % 2 != 0 || rows[i + 1].buffer != rows[i].buffer ||
                rows[i + 1].channel != rows[i].channel + 1)
                return false;
        return true;
    }

    /// The rows that hold two rows each. The stages that compute these then write them, too.
    std::vector<Row> packed_rows(const std::vector<Row>& rows) {
        std::vector<Row> packed;
        for (std::size_t i = 0; i < rows.size(); i += 2) {
            const auto producer = std::find_if(stages_.begin(), stages_.end(),
                                               [&](const Stage& each) { return each.buffer == rows[i].buffer; });
            if (producer->packed < 0)
                producer->packed = new_buffer(buffer(rows[i].buffer).schedule, producer->channels / 2);
            packed.push_back({producer->packed, rows[i].channel / 2});
        }
        return packed;
    }

    void add_upsampling(Stage& made, const Node& node) {
        made.kind = Stage::Kind::upsample;
        const ChannelRange& range = range_of(node.inputs[0]);
        made.array = outside_index(range.value);
        made.array_shape = graph_.node(range.value).shape;
    }

    void add_sum(Stage& made, const FusedOp& op) {
        append_inputs(made.inputs, op, made.schedule);
        const Node& node = main(op);
        if (node.kind() == OpKind::relu)
            made.activation = {Activation::Kind::relu, 0.0F};
        if (node.kind() == OpKind::leaky_relu)
            made.activation = {Activation::Kind::leaky_relu, static_cast<float>(node.as<LeakyRelu>().slope)};
    }

    /// Consecutive stages with one schedule form a phase.
    void form_phases() {
        for (Stage& each : stages_) {
            if (pipeline_.phases.empty() || !(pipeline_.phases.back().schedule == each.schedule))
                pipeline_.phases.push_back({each.schedule, {}});
            pipeline_.max_delay = std::max(pipeline_.max_delay, each.schedule.delay);
            if (each.buffer >= 0)
                buffer(each.buffer).phase = pipeline_.phases.size() - 1;
            if (each.packed >= 0)
                buffer(each.packed).phase = pipeline_.phases.size() - 1;
            pipeline_.phases.back().stages.push_back(std::move(each));
        }
    }

    /// Convolutions of the last phase that gain by Winograd's filtering. What they compute is read in that phase alone, so
    /// that nobody waits for the lines that they compute together.
    void choose_winograd() {
        Phase& last = pipeline_.phases.back();
        for (Stage& each : last.stages) {
            if (each.kind != Stage::Kind::convolve || each.pairs || !gains_by_winograd(*each.kernel))
                continue;
            each.winograd = true;
            each.weights = packed_winograd_weights(*each.kernel);
            each.zeros.assign(static_cast<std::size_t>(each.channels), 0.0F);
            last.lines = winograd_outputs;
        }
    }

    /// G g along y: for each product the weights of a kernel of one line.
    static std::vector<float> packed_winograd_weights(const Tensor& kernel) {
        const Shape& shape = kernel.shape();
        const std::int64_t depth = shape[4];
        std::vector<Tensor> lines(winograd_inputs, Tensor({shape[0], shape[1], 1, 1, depth}));
        for (std::int64_t row = 0; row < shape[0] * shape[1]; ++row)
            for (std::int64_t z = 0; z < depth; ++z) {
                const float* const at = kernel.data() + row * 3 * depth + z;
                const auto products = transformed_weights({at[0], at[depth], at[2 * depth]});
                for (std::size_t p = 0; p < lines.size(); ++p)
                    lines[p][row * depth + z] = static_cast<float>(products[p]);
            }
        std::vector<float> packed;
        for (const Tensor& line : lines) {
            const auto weights = packed_row_weights(line, 1);
            packed.insert(packed.end(), weights.begin(), weights.end());
        }
        return packed;
    }

    Buffer& buffer(int index) { return pipeline_.buffers[static_cast<std::size_t>(index)]; }

    /// A value needs a line buffer unless it is read only in its own phase, at its own position.
    void choose_line_buffers() {
        for (std::size_t p = 0; p < pipeline_.phases.size(); ++p)
            for (const Stage& consumer : pipeline_.phases[p].stages) {
                const auto read = [&](const Row& row, std::int64_t around_x, std::int64_t around_y) {
                    Buffer& from = buffer(row.buffer);
                    from.is_line_buffer = from.is_line_buffer || from.phase != p || around_x > 0 || around_y > 0;
                    from.depth = std::max(from.depth, consumer.schedule.delay + around_y - from.schedule.delay +
                                                          pipeline_.phases[p].lines);
                };
                for (const Row& row : consumer.inputs)
                    read(row, consumer.radius_x, consumer.radius_y);
                for (const Row& row : consumer.residual)
                    read(row, 0, 0);
            }
    }

    std::int64_t floats_of(const Buffer& buffer, std::int64_t tile) const {
        const std::int64_t width = buffer.is_line_buffer ? tile + 2 * buffer.schedule.halo : 1;
        return buffer.depth * width * buffer.channels * pipeline_.stride;
    }

    std::int64_t floats_of_tile(std::int64_t tile) const {
        std::int64_t floats = winograd_floats();
        for (const Buffer& each : pipeline_.buffers)
            floats += floats_of(each, tile);
        return floats;
    }

    /// Of the transformed inputs and products of a stage.
    std::int64_t winograd_floats() const {
        std::int64_t rows = 0;
        for (const Stage& each : pipeline_.phases.back().stages)
            if (each.winograd)
                rows = std::max(rows, winograd_inputs * (std::ssize(each.inputs) + each.channels));
        return rows * pipeline_.stride;
    }

    /// The smallest number of tiles whose buffers fit into the cache, the same for each thread. With several threads at
    /// least two for each, so that a preempted thread delays the others by half of its share at most.
    void choose_tile() {
        const std::int64_t extent = pipeline_.grid[2];
        const std::int64_t least = threads_ == 1 ? 1 : 2 * threads_;
        for (std::int64_t tiles = std::min(least, extent);; tiles += threads_) {
            pipeline_.tile = (extent + tiles - 1) / tiles;
            const auto bytes = floats_of_tile(pipeline_.tile) * static_cast<std::int64_t>(sizeof(float));
            if (bytes <= max_tile_bytes || pipeline_.tile <= min_tile)
                break;
        }
        pipeline_.tiles = (extent + pipeline_.tile - 1) / pipeline_.tile;
    }

    void lay_out() {
        pipeline_.grid = graph_.node(group_.output()).shape;
        const std::int64_t voxels = rounded_up(pipeline_.grid[4], 2 * row_multiple); // an upsampling writes this many
        pipeline_.stride = voxels + row_margin;
        choose_tile();
        std::int64_t blend = 0;
        std::int64_t low_rows = 0;
        for (Phase& phase : pipeline_.phases)
            for (Stage& each : phase.stages) {
                const std::int64_t taps = (2 * each.radius_x + 1) * (2 * each.radius_y + 1);
                const std::int64_t pointers = std::ssize(each.inputs) * taps + 4 * each.channels;
                const std::int64_t of_winograd = 2 * winograd_inputs * std::ssize(each.inputs) +
                                                 (winograd_inputs + 2 * winograd_outputs) * each.channels;
                pipeline_.max_pointers =
                    std::max(pipeline_.max_pointers, each.winograd ? std::max(pointers, of_winograd) : pointers);
                pipeline_.constant_floats += std::ssize(each.weights) + std::ssize(each.bias) + std::ssize(each.zeros);
                each.kernel = nullptr;
                each.input_rows = joined(each.inputs);
                each.residual_rows = joined(each.residual);
                if (each.kind == Stage::Kind::upsample) {
                    blend = std::max(blend, each.array_shape[1] * each.array_shape[4]);
                    low_rows = std::max(low_rows, each.channels);
                }
            }
        constexpr std::int64_t floats_per_pointer = sizeof(const float*) / sizeof(float);
        std::int64_t floats = rounded_up(pipeline_.max_pointers * floats_per_pointer, row_multiple);
        const auto take = [&](std::int64_t count) {
            return std::exchange(floats, floats + rounded_up(count, row_multiple));
        };
        pipeline_.zero_row = take(pipeline_.stride + row_margin);
        pipeline_.blend = take(blend);
        pipeline_.low_rows = take(low_rows * pipeline_.stride + row_margin);
        pipeline_.winograd_rows = take(winograd_floats() + row_margin);
        for (Buffer& each : pipeline_.buffers) {
            each.width = each.is_line_buffer ? pipeline_.tile + 2 * each.schedule.halo : 1;
            each.offset = take(floats_of(each, pipeline_.tile));
            if (each.is_line_buffer || each.depth > 1)
                for (std::int64_t y = 0; y < pipeline_.grid[3]; ++y)
                    each.line_offsets.push_back(y % each.depth * each.width * each.channels * pipeline_.stride);
        }
        pipeline_.thread_floats = floats + row_margin; // and a margin behind the last row
    }

    const Graph& graph_;
    const PlannedNetwork& planned_;
    int threads_;
    const FusionGroup& group_;
    bool bf16_; ///< convolutions may run in it
    std::vector<NodeId> outside_;
    std::vector<std::vector<Row>> rows_; ///< by node, for values inside
    std::vector<Schedule> schedules_;    ///< by node
    std::vector<Reach> reaches_;         ///< by node
    std::vector<bool> inside_;           ///< by node
    std::vector<Stage> stages_;
    Pipeline pipeline_;
};

/// The computation of one tile by one thread.
class TileRun {
  public:
    /// `spans`: what each reach computes, or null for everything.
    TileRun(const Pipeline& pipeline, const LineKernels& kernels, const OpArguments& arguments, const LineSpans* spans,
            float* memory)
        : pipeline_(pipeline), kernels_(kernels), arguments_(arguments), spans_(spans), memory_(memory),
          pointers_(reinterpret_cast<float**>(memory)) {}

    void run(std::int64_t sample, std::int64_t x_begin, std::int64_t x_end) {
        sample_ = sample;
        x_begin_ = x_begin;
        for (std::int64_t line = 0; line < pipeline_.grid[3] + pipeline_.max_delay; ++line)
            for (const Phase& phase : pipeline_.phases) {
                const std::int64_t y = line - phase.schedule.delay;
                if (y < 0 || y >= pipeline_.grid[3])
                    continue;
                if ((y + 1) % phase.lines != 0 && y + 1 < pipeline_.grid[3])
                    continue; // runs with a later line
                const std::int64_t first = y / phase.lines * phase.lines;
                const std::int64_t from = std::max<std::int64_t>(0, x_begin - phase.schedule.halo);
                const std::int64_t to = std::min(pipeline_.grid[2], x_end + phase.schedule.halo);
                for (std::int64_t x = from; x < to; ++x)
                    for (const Stage& stage : phase.stages)
                        run(stage, x, first, y + 1);
            }
    }

  private:
    /// Channel 0 of the z-line at x and y; the other channels follow, `stride` floats apart.
    float* rows_at(const Buffer& buffer, std::int64_t x, std::int64_t y) const {
        float* first = memory_ + buffer.offset + row_margin;
        if (buffer.line_offsets.empty())
            return first;
        const std::int64_t column = buffer.is_line_buffer ? x - (x_begin_ - buffer.schedule.halo) : 0;
        return first + buffer.line_offsets[static_cast<std::size_t>(y)] + column * buffer.channels * pipeline_.stride;
    }

    /// Writes pointers to the rows at x and y, or to zeros outside the volume; returns the end of what it wrote.
    /// From voxel z_begin_ on.
    float** point_at(const std::vector<Rows>& rows, std::size_t count, std::int64_t x, std::int64_t y,
                     float** to) const {
        if (x < 0 || x >= pipeline_.grid[2] || y < 0 || y >= pipeline_.grid[3])
            return std::fill_n(to, count, memory_ + pipeline_.zero_row + row_margin);
        const std::int64_t stride = pipeline_.stride;
        for (const Rows& piece : rows) {
            float* row = rows_at(pipeline_.buffers[piece.buffer], x, y) + z_begin_ + piece.channel * stride;
            for (std::int64_t c = 0; c < piece.count; ++c, row += stride)
                *to++ = row;
        }
        return to;
    }

    float** point_at_inputs(const Stage& stage, std::int64_t x, std::int64_t y, float** to) const {
        return point_at(stage.input_rows, stage.inputs.size(), x, y, to);
    }

    float** point_at_residual(const Stage& stage, std::int64_t x, std::int64_t y, float** to) const {
        return point_at(stage.residual_rows, stage.residual.size(), x, y, to);
    }

    /// Returns the end of what it wrote.
    float** point_at_output(const Stage& stage, std::int64_t x, std::int64_t y, float** to) const {
        float* first = rows_at(pipeline_.buffers[static_cast<std::size_t>(stage.buffer)], x, y) + z_begin_;
        for (std::int64_t c = 0; c < stage.channels; ++c)
            *to++ = first + c * pipeline_.stride;
        return to;
    }

    /// Writes zeros behind the last voxel, for kernels that read neighbours along z. `floats` were written.
    void clear_tail(float* const* rows, std::int64_t channels, std::int64_t floats) const {
        const std::int64_t tail = z_begin_ + floats - pipeline_.grid[4];
        if (tail > 0)
            for (std::int64_t c = 0; c < channels; ++c)
                std::fill_n(rows[c] + floats - tail, tail, 0.0F);
    }

    /// Sets the part of the lines begin <= y < end that a stage computes: whole vectors. Returns whether there is any.
    bool set_part(const Stage& stage, std::int64_t x, std::int64_t begin_line, std::int64_t end_line) {
        z_begin_ = 0;
        std::int64_t end = pipeline_.grid[4];
        if (spans_) {
            LineSpan span;
            for (std::int64_t y = begin_line; y < end_line; ++y)
                span = hull(span, spans_[stage.reach].line(x, y));
            // An upsampling writes whole pairs of vectors, as long as the row.
            const std::int64_t multiple = stage.kind == Stage::Kind::upsample ? 2 * row_multiple : row_multiple;
            z_begin_ = span.begin / multiple * multiple;
            end = span.empty() ? z_begin_ : span.end;
        }
        floats_ = rounded_up(end - z_begin_, row_multiple);
        voxels_ = std::min(floats_, pipeline_.grid[4] - z_begin_);
        return floats_ > 0;
    }

    /// Lines begin <= y < end.
    void run(const Stage& stage, std::int64_t x, std::int64_t begin, std::int64_t end) {
        if (stage.winograd)
            return convolve_lines(stage, x, begin, end);
        for (std::int64_t y = begin; y < end; ++y)
            run(stage, x, y);
    }

    void run(const Stage& stage, std::int64_t x, std::int64_t y) {
        const bool any = set_part(stage, x, y, y + 1);
        if (stage.kind == Stage::Kind::store)
            return store(stage, x, y);
        if (!any)
            return;
        switch (stage.kind) {
        case Stage::Kind::load: load(stage, x, y); break;
        case Stage::Kind::upsample: upsample(stage, x, y); break;
        case Stage::Kind::convolve: convolve(stage, x, y); break;
        case Stage::Kind::add: add(stage, x, y); break;
        case Stage::Kind::store: break;
        }
        if (stage.packed >= 0)
            pack(stage, x, y);
    }

    void pack(const Stage& stage, std::int64_t x, std::int64_t y) {
        float** packed = point_at_output(stage, x, y, pointers_);
        float* first = rows_at(pipeline_.buffers[static_cast<std::size_t>(stage.packed)], x, y) + z_begin_;
        const std::int64_t pairs = stage.channels / 2;
        for (std::int64_t p = 0; p < pairs; ++p)
            packed[p] = first + p * pipeline_.stride;
        pair_kernels_->pack(pointers_, pairs, floats_, packed);
    }

    std::int64_t line_index(std::int64_t x, std::int64_t y) const {
        return (sample_ * pipeline_.grid[2] + x) * pipeline_.grid[3] + y;
    }

    const float* array_line(const Stage& stage, std::int64_t x, std::int64_t y) const {
        return arguments_.input<float>(stage.array) +
               (line_index(x, y) * pipeline_.grid[4] + z_begin_) * stage.array_channels + stage.array_begin;
    }

    void load(const Stage& stage, std::int64_t x, std::int64_t y) {
        point_at_output(stage, x, y, pointers_);
        kernels_.to_rows({stage.array_channels, stage.channels, voxels_}, array_line(stage, x, y), pointers_);
        clear_tail(pointers_, stage.channels, floats_);
    }

    /// What is not needed is 0.
    void store(const Stage& stage, std::int64_t x, std::int64_t y) {
        float* const line =
            static_cast<float*>(arguments_.output) + line_index(x, y) * pipeline_.grid[4] * stage.channels;
        const std::int64_t end = z_begin_ + voxels_;
        std::fill_n(line, z_begin_ * stage.channels, 0.0F);
        std::fill_n(line + end * stage.channels, (pipeline_.grid[4] - end) * stage.channels, 0.0F);
        if (voxels_ == 0)
            return;
        point_at_inputs(stage, x, y, pointers_);
        kernels_.to_voxels({stage.channels, stage.channels, voxels_}, pointers_, line + z_begin_ * stage.channels);
    }

    void upsample(const Stage& stage, std::int64_t x, std::int64_t y) {
        const Shape& in = stage.array_shape;
        const Neighbours nx = neighbours(Interpolation::trilinear, x, in[2], pipeline_.grid[2]);
        const Neighbours ny = neighbours(Interpolation::trilinear, y, in[3], pipeline_.grid[3]);
        const std::int64_t first = z_begin_ / 2; // of the part, in voxels of the array
        const std::int64_t end = std::min(in[4], first + floats_ / 2);
        RowUpsampling u;
        u.before = first > 0 ? 1 : 0;
        u.voxels = end - first;
        u.after = end < in[4] ? 1 : 0;
        const auto line = [&](std::int64_t a, std::int64_t b) {
            return arguments_.input<float>(stage.array) +
                   (((sample_ * in[2] + a) * in[3] + b) * in[4] + first - u.before) * in[1];
        };
        u.lines = {line(nx.low, ny.low), line(nx.low, ny.high), line(nx.high, ny.low), line(nx.high, ny.high)};
        u.weights = {nx.low_weight * ny.low_weight, nx.low_weight * ny.high_weight, nx.high_weight * ny.low_weight,
                     nx.high_weight * ny.high_weight};
        u.channels = stage.channels;
        u.activation = stage.activation;
        u.blend = memory_ + pipeline_.blend;
        u.outputs = pointers_;
        float** next = point_at_output(stage, x, y, pointers_);
        u.rows = next;
        for (std::int64_t c = 0; c < stage.channels; ++c)
            *next++ = memory_ + pipeline_.low_rows + row_margin + c * pipeline_.stride - u.before;
        if (!stage.residual.empty()) {
            u.residual = next;
            point_at_residual(stage, x, y, next);
        }
        kernels_.upsample(u);
        clear_tail(pointers_, stage.channels, rounded_up(floats_, 2 * row_multiple));
    }

    void convolve(const Stage& stage, std::int64_t x, std::int64_t y) {
        RowConvolution c;
        float** next = pointers_;
        c.inputs = next;
        for (std::int64_t dx = -stage.radius_x; dx <= stage.radius_x; ++dx)
            for (std::int64_t dy = -stage.radius_y; dy <= stage.radius_y; ++dy)
                next = point_at_inputs(stage, x + dx, y + dy, next);
        c.rows = next - pointers_;
        if (stage.three_along_z) {
            c.shifts = 3;
            c.first_shift = -1;
        }
        c.weights = stage.weights.data();
        c.bias = stage.bias.data();
        if (!stage.residual.empty()) {
            c.residual = next;
            next = point_at_residual(stage, x, y, next);
        }
        c.outputs = next;
        point_at_output(stage, x, y, next);
        c.channels = stage.channels;
        c.floats = floats_;
        c.activation = stage.activation;
        (stage.pairs ? pair_kernels_->convolve : kernels_.convolve)(c);
        clear_tail(next, stage.channels, floats_);
    }

    /// Four lines, or those that are left at the end of the volume.
    void convolve_lines(const Stage& stage, std::int64_t x, std::int64_t begin, std::int64_t end) {
        if (!set_part(stage, x, begin, end))
            return;
        const std::int64_t inputs = std::ssize(stage.inputs);
        float** const rows = pointers_; // of the six lines that are read
        float** const transformed = rows + winograd_inputs * inputs;
        float** const products = transformed + winograd_inputs * inputs;
        float** const outputs = products + winograd_inputs * stage.channels;
        float** const residual = outputs + winograd_outputs * stage.channels;
        // The convolutions along z read the voxels on either side of the part, too.
        const std::int64_t before = z_begin_ > 0 ? row_multiple : 0;
        const std::int64_t after = z_begin_ + floats_ < pipeline_.grid[4] ? row_multiple : 0;
        float** next = rows;
        for (std::int64_t line = 0; line < winograd_inputs; ++line)
            next = point_at_inputs(stage, x, begin - 1 + line, next);
        float* row = memory_ + pipeline_.winograd_rows + row_margin + z_begin_;
        for (float** to = transformed; to < outputs; ++to, row += pipeline_.stride)
            *to = row;
        for (float** each = rows; each < products; ++each)
            *each -= before;
        winograd_.transform_lines({rows, transformed, inputs, before + floats_ + after});
        for (float** each = transformed; each < products; ++each)
            *each += before;

        RowConvolution c;
        c.rows = inputs;
        c.shifts = 3;
        c.first_shift = -1;
        c.bias = stage.zeros.data();
        c.channels = stage.channels;
        c.floats = floats_;
        for (std::int64_t p = 0; p < winograd_inputs; ++p) {
            c.inputs = transformed + p * inputs;
            c.weights = stage.weights.data() + p * 3 * inputs * stage.channels;
            c.outputs = products + p * stage.channels;
            kernels_.convolve(c);
        }
        float** next_output = outputs;
        float** next_residual = residual;
        for (std::int64_t y = begin; y < end; ++y, next_output += stage.channels) {
            point_at_output(stage, x, y, next_output);
            if (!stage.residual.empty())
                next_residual = point_at_residual(stage, x, y, next_residual);
        }
        winograd_.sum_lines({products, stage.bias.data(), stage.residual.empty() ? nullptr : residual, outputs,
                             end - begin, stage.channels, floats_, stage.activation});
        clear_tail(outputs, (end - begin) * stage.channels, floats_);
    }

    void add(const Stage& stage, std::int64_t x, std::int64_t y) {
        RowSum s;
        s.inputs = pointers_;
        float** next = point_at_inputs(stage, x, y, pointers_);
        s.terms = static_cast<std::int64_t>(stage.inputs.size()) / stage.channels;
        s.outputs = next;
        point_at_output(stage, x, y, next);
        s.channels = stage.channels;
        s.floats = floats_;
        s.activation = stage.activation;
        kernels_.add(s);
    }

    const Pipeline& pipeline_;
    const LineKernels& kernels_;
    const WinogradKernels& winograd_ = winograd_kernels();
    const PairKernels* pair_kernels_ = pair_kernels(); ///< not null where a stage has pairs
    const OpArguments& arguments_;
    const LineSpans* spans_;
    float* memory_;
    float** pointers_;
    std::int64_t sample_ = 0;
    std::int64_t x_begin_ = 0;
    /// Of the line of a stage: where the part that it computes begins, its floats and voxels.
    std::int64_t z_begin_ = 0, floats_ = 0, voxels_ = 0;
};

class FusionGroupOp final : public InferenceOp {
  public:
    FusionGroupOp(Pipeline pipeline, int threads)
        : pipeline_(std::move(pipeline)), slots_(static_cast<std::size_t>(threads)), clean_(slots_.size()),
          spans_(pipeline_.reaches.size()) {}

    std::string implementation() const override {
        const auto any = [&](bool Stage::*has) {
            return std::any_of(pipeline_.phases.begin(), pipeline_.phases.end(), [&](const Phase& phase) {
                return std::any_of(phase.stages.begin(), phase.stages.end(),
                                   [&](const Stage& each) { return each.*has; });
            });
        };
        return std::string("mfres:fused:") +
               (any(&Stage::pairs) ? pair_kernels()->name + std::string(", bf16") : kernels_.name) +
               (any(&Stage::winograd) ? ", winograd" : "");
    }
    std::int64_t workspace_bytes() const override {
        return static_cast<std::int64_t>(slots_.size() * sizeof(float)) * pipeline_.thread_floats;
    }
    std::int64_t constant_bytes() const override {
        return pipeline_.constant_floats * static_cast<std::int64_t>(sizeof(float));
    }
    void bind(const OpArguments& arguments) override { arguments_ = arguments; }

    bool restrict_to(const LineSpans& needed) override {
        for (std::size_t n = 0; n < spans_.size(); ++n)
            spans_[n].assign_grown(needed, pipeline_.reaches[n]);
        return true;
    }

    void add_reads(std::size_t index, LineSpans& read) override {
        for (const Phase& phase : pipeline_.phases)
            for (const Stage& stage : phase.stages) {
                if (stage.array != index)
                    continue;
                if (stage.kind == Stage::Kind::load)
                    read.add(spans_[stage.reach]);
                if (stage.kind == Stage::Kind::upsample) {
                    halved_.assign_halved(spans_[stage.reach]);
                    read.add(halved_);
                }
            }
    }

    void run() override {
        std::fill(clean_.begin(), clean_.end(), char{0});
        // One part per tile: a preempted thread delays one tile, not its share of the volume.
        run_parts(static_cast<int>(pipeline_.grid[0] * pipeline_.tiles), [&](int part) {
            slots_.with([&](std::size_t slot) {
                float* memory = reinterpret_cast<float*>(arguments_.workspace) +
                                static_cast<std::int64_t>(slot) * pipeline_.thread_floats;
                if (!std::exchange(clean_[slot], char{1}))
                    std::fill_n(memory, pipeline_.thread_floats, 0.0F); // the margins of all rows
                TileRun tile(pipeline_, kernels_, arguments_, spans_.front().all() ? nullptr : spans_.data(), memory);
                const std::int64_t x = part % pipeline_.tiles * pipeline_.tile;
                tile.run(part / pipeline_.tiles, x, std::min(x + pipeline_.tile, pipeline_.grid[2]));
            });
        });
    }

  private:
    Pipeline pipeline_;
    const LineKernels& kernels_ = line_kernels();
    Slots slots_;
    std::vector<char> clean_;      ///< by slot: margins are zero in this run
    std::vector<LineSpans> spans_; ///< by reach
    LineSpans halved_;             ///< of add_reads
    OpArguments arguments_;
};

} // namespace

bool can_fuse() {
    return line_kernels().lanes > 1;
}

const FusionModel* usable_model(const FusionModel* model) {
    return can_fuse() ? model : nullptr;
}

std::unique_ptr<InferenceOp> make_fusion_group(const PlannedNetwork& planned, int threads, const FusionGroup& group,
                                               bool bf16) {
    const bool possible = bf16 && pair_kernels() != nullptr;
    return std::make_unique<FusionGroupOp>(PipelineBuilder(planned, threads, group, possible).build(), threads);
}

} // namespace mfres::kernels
