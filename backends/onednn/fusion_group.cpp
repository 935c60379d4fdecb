#include "backends/onednn/fusion_group.h"

#include "backends/onednn/executable.h"
#include "backends/onednn/line_kernels.h"
#include "backends/onednn/loops.h"
#include "backends/onednn/threads.h"

#include <algorithm>
#include <atomic>
#include <utility>

namespace mfres::onednn {

namespace {

/// Bytes of rings and rows that one thread's tile should not exceed: what is left of an L2 cache of 2 MiB beside
/// weights and the arrays outside. With 1 MiB smaller tiles were no faster: their halos cost what they saved.
constexpr std::int64_t tile_bytes = 3 << 19;
/// Narrower tiles compute more of their halo than of themselves.
constexpr std::int64_t least_tile = 8;

std::int64_t rounded_up(std::int64_t value, std::int64_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

/// One channel of a storage.
struct Row {
    int storage = -1;
    std::int64_t channel = 0;
};

/// When and where in a tile a stage works.
struct Schedule {
    std::int64_t lag = 0;
    std::int64_t halo = 0;

    friend bool operator==(const Schedule& a, const Schedule& b) { return a.lag == b.lag && a.halo == b.halo; }
};

/// Where a stage's rows are kept: a ring of `depth` lines with all x of the tile, or just the line being computed.
struct Storage {
    Schedule schedule;
    std::int64_t channels = 0;
    std::size_t group = 0;
    bool ring = false;
    std::int64_t depth = 1;
    std::int64_t width = 1;  ///< of the tile with its halo
    std::int64_t offset = 0; ///< floats from the start of a thread's memory
};

struct Stage {
    enum class Kind : std::uint8_t { load, upsample, convolve, add, store };
    Kind kind = Kind::load;
    Schedule schedule;
    std::vector<Row> inputs;   ///< channels of one operand after those of another
    std::vector<Row> residual; ///< one per channel of the output, or none
    int storage = -1;          ///< of the output; none for a store
    std::int64_t channels = 0; ///< of the output
    Activation activation;
    std::int64_t radius_x = 0, radius_y = 0; ///< of a convolution
    bool three_along_z = false;
    std::vector<float> weights, bias;
    std::size_t array = 0;           ///< of a load or upsampling: which value from outside
    std::int64_t array_channels = 0; ///< its channels,
    std::int64_t array_begin = 0;    ///< and the first to load
    Shape array_shape;               ///< of an upsampling's operand
};

/// Stages that run row by row, one after the other.
struct Group {
    Schedule schedule;
    std::vector<Stage> stages;
};

/// Everything about a region that does not change from run to run.
struct Region {
    Shape grid; ///< of the output
    std::vector<Group> groups;
    std::vector<Storage> storages;
    std::int64_t stride = 0; ///< floats from row to row
    std::int64_t tile = 0;   ///< extent along x
    std::int64_t tiles = 0;
    std::int64_t most_lag = 0;
    std::int64_t most_pointers = 0;                     ///< of a stage
    std::int64_t zero_row = 0, blend = 0, low_rows = 0; ///< offsets of a thread's other memory
    std::int64_t thread_floats = 0;
    std::int64_t constant_floats = 0;
};

/// Weights of a convolution in the order of RowConvolution; a row is a tap along x and y and an input channel.
std::vector<float> packed_weights(const Tensor& weight) {
    const Shape& shape = weight.shape();
    const std::int64_t taps = shape[2] * shape[3];
    std::vector<float> packed;
    packed.reserve(static_cast<std::size_t>(weight.elements()));
    for (std::int64_t first = 0; first < shape[0]; first += row_block)
        for (std::int64_t tap = 0; tap < taps; ++tap)
            for (std::int64_t in = 0; in < shape[1]; ++in)
                for (std::int64_t z = 0; z < shape[4]; ++z)
                    for (std::int64_t out = first; out < std::min(first + row_block, shape[0]); ++out)
                        packed.push_back(weight[((out * shape[1] + in) * taps + tap) * shape[4] + z]);
    return packed;
}

class RegionMaker {
  public:
    RegionMaker(const Compilation& compilation, const Task& task)
        : graph_(compilation.graph), compilation_(compilation), task_(task),
          outside_(values_read(graph_, compilation.ranges, task)), rows_(static_cast<std::size_t>(graph_.size())),
          schedules_(rows_.size()), inside_(rows_.size(), false) {}

    Region make() {
        for (const Step& step : task_.steps)
            inside_[static_cast<std::size_t>(step.output)] = true;
        schedule_steps();
        for (const Step& step : task_.steps)
            add_step(step);
        Stage store = stage(Stage::Kind::store, schedules_[static_cast<std::size_t>(task_.output())]);
        store.inputs = rows_[static_cast<std::size_t>(task_.output())];
        store.channels = graph_.node(task_.output()).shape[1];
        stages_.push_back(std::move(store));
        group_stages();
        choose_rings();
        lay_out();
        return std::move(region_);
    }

  private:
    static Stage stage(Stage::Kind kind, const Schedule& schedule) {
        Stage made;
        made.kind = kind;
        made.schedule = schedule;
        return made;
    }

    const Node& main(const Step& step) const { return graph_.node(step.main); }
    bool is_inside(NodeId value) const { return inside_[static_cast<std::size_t>(value)]; }
    Schedule& schedule_of(NodeId value) { return schedules_[static_cast<std::size_t>(value)]; }

    static std::int64_t radius(const Node& node, std::size_t axis) {
        return node.kind() == OpKind::conv ? node.as<Conv>().kernel[axis] / 2 : 0;
    }

    /// Calls f(value, rows along y around it) for each value inside the region that a step reads.
    template <typename F>
    void for_inner_reads(const Step& step, const F& f) const {
        for (const NodeId input : main(step).inputs)
            if (const NodeId value = compilation_.ranges[static_cast<std::size_t>(input)].value; is_inside(value))
                f(value, radius(main(step), 1));
        if (step.residual && is_inside(*step.residual))
            f(*step.residual, 0);
    }

    /// Lags as small as the values allow, except that what reads nothing inside waits for its readers.
    void schedule_steps() {
        for (const Step& step : task_.steps)
            for_inner_reads(step, [&](NodeId value, std::int64_t around) {
                auto& lag = schedule_of(step.output).lag;
                lag = std::max(lag, schedule_of(value).lag + around);
            });
        std::vector<std::int64_t> latest(rows_.size(), schedule_of(task_.output()).lag);
        for (auto step = task_.steps.rbegin(); step != task_.steps.rend(); ++step) {
            const std::int64_t beyond = schedule_of(step->output).halo + radius(main(*step), 0);
            bool reads_inside = false;
            for_inner_reads(*step, [&](NodeId value, std::int64_t) {
                reads_inside = true;
                schedule_of(value).halo = std::max(schedule_of(value).halo, beyond);
            });
            if (!reads_inside)
                schedule_of(step->output).lag = latest[static_cast<std::size_t>(step->output)];
            for_inner_reads(*step, [&](NodeId value, std::int64_t around) {
                auto& last = latest[static_cast<std::size_t>(value)];
                last = std::min(last, schedule_of(step->output).lag - around);
            });
        }
        // Loads run ahead of what reads them.
        std::int64_t ahead = 0;
        for (const Step& step : task_.steps)
            ahead = std::max(ahead, radius(main(step), 1) - schedule_of(step.output).lag);
        for (const Step& step : task_.steps)
            schedule_of(step.output).lag += ahead;
    }

    int new_storage(const Schedule& schedule, std::int64_t channels) {
        Storage storage;
        storage.schedule = schedule;
        storage.channels = channels;
        region_.storages.push_back(storage);
        return static_cast<int>(region_.storages.size()) - 1;
    }

    std::size_t outside_index(NodeId value) const {
        return static_cast<std::size_t>(std::find(outside_.begin(), outside_.end(), value) - outside_.begin());
    }

    /// The rows of a node's value, after a load where it comes from outside.
    std::vector<Row> rows_for(NodeId node, const Schedule& reading) {
        const ChannelRange& range = compilation_.ranges[static_cast<std::size_t>(node)];
        const std::int64_t channels = graph_.node(node).shape[1];
        if (is_inside(range.value)) {
            const auto& rows = rows_[static_cast<std::size_t>(range.value)];
            return {rows.begin() + range.begin, rows.begin() + range.begin + channels};
        }
        Stage load = stage(Stage::Kind::load, reading);
        load.channels = channels;
        load.storage = new_storage(reading, channels);
        load.array = outside_index(range.value);
        load.array_channels = graph_.node(range.value).shape[1];
        load.array_begin = range.begin;
        auto rows = rows_of(load.storage, channels);
        stages_.push_back(std::move(load));
        return rows;
    }

    static std::vector<Row> rows_of(int storage, std::int64_t channels) {
        std::vector<Row> rows;
        for (std::int64_t c = 0; c < channels; ++c)
            rows.push_back({storage, c});
        return rows;
    }

    void append_inputs(std::vector<Row>& rows, const Step& step, const Schedule& reading) {
        for (const NodeId input : main(step).inputs) {
            const auto more = rows_for(input, reading);
            rows.insert(rows.end(), more.begin(), more.end());
        }
    }

    void add_step(const Step& step) {
        const Node& node = main(step);
        const Schedule schedule = schedule_of(step.output);
        auto& result = rows_[static_cast<std::size_t>(step.output)];
        if (node.kind() == OpKind::concat) {
            append_inputs(result, step, schedule);
            return;
        }
        if (node.kind() == OpKind::slice) {
            const auto all = rows_for(node.inputs[0], schedule);
            result.assign(all.begin() + node.as<Slice>().begin, all.begin() + node.as<Slice>().end);
            return;
        }
        Stage made = stage(Stage::Kind::add, schedule);
        made.activation = step.activation;
        made.channels = node.shape[1];
        if (node.kind() == OpKind::conv)
            add_convolution(made, step);
        else if (node.kind() == OpKind::upsample)
            add_upsampling(made, node);
        else
            add_sum(made, step);
        if (step.residual)
            made.residual = rows_for(*step.residual, schedule);
        made.storage = new_storage(schedule, made.channels);
        result = rows_of(made.storage, made.channels);
        stages_.push_back(std::move(made));
    }

    void add_convolution(Stage& made, const Step& step) {
        const Node& node = main(step);
        made.kind = Stage::Kind::convolve;
        made.radius_x = radius(node, 0);
        made.radius_y = radius(node, 1);
        made.three_along_z = radius(node, 2) == 1;
        append_inputs(made.inputs, step, {made.schedule.lag - made.radius_y, made.schedule.halo + made.radius_x});
        made.weights = packed_weights(compilation_.weights.find(node.parameters[0].name)->second);
        made.bias.assign(static_cast<std::size_t>(made.channels), 0.0F);
        if (node.as<Conv>().bias) {
            const auto values = compilation_.weights.find(node.parameters[1].name)->second.values();
            made.bias.assign(values.begin(), values.end());
        }
        region_.constant_floats += static_cast<std::int64_t>(made.weights.size() + made.bias.size());
    }

    void add_upsampling(Stage& made, const Node& node) {
        made.kind = Stage::Kind::upsample;
        const ChannelRange& range = compilation_.ranges[static_cast<std::size_t>(node.inputs[0])];
        made.array = outside_index(range.value);
        made.array_shape = graph_.node(range.value).shape;
    }

    void add_sum(Stage& made, const Step& step) {
        append_inputs(made.inputs, step, made.schedule);
        const Node& node = main(step);
        if (node.kind() == OpKind::relu)
            made.activation = {Activation::Kind::relu, 0.0F};
        if (node.kind() == OpKind::leaky_relu)
            made.activation = {Activation::Kind::leaky_relu, static_cast<float>(node.as<LeakyRelu>().slope)};
    }

    /// Neighbouring stages with one schedule work row by row.
    void group_stages() {
        for (Stage& each : stages_) {
            if (region_.groups.empty() || !(region_.groups.back().schedule == each.schedule))
                region_.groups.push_back({each.schedule, {}});
            region_.most_lag = std::max(region_.most_lag, each.schedule.lag);
            if (each.storage >= 0)
                storage(each.storage).group = region_.groups.size() - 1;
            region_.groups.back().stages.push_back(std::move(each));
        }
    }

    Storage& storage(int index) { return region_.storages[static_cast<std::size_t>(index)]; }

    /// A storage is a ring if anything but the same row of the same group reads it.
    void choose_rings() {
        for (std::size_t g = 0; g < region_.groups.size(); ++g)
            for (const Stage& reader : region_.groups[g].stages) {
                const auto read = [&](const Row& row, std::int64_t around_x, std::int64_t around_y) {
                    Storage& from = storage(row.storage);
                    from.ring = from.ring || from.group != g || around_x > 0 || around_y > 0;
                    from.depth = std::max(from.depth, reader.schedule.lag + around_y - from.schedule.lag + 1);
                };
                for (const Row& row : reader.inputs)
                    read(row, reader.radius_x, reader.radius_y);
                for (const Row& row : reader.residual)
                    read(row, 0, 0);
            }
    }

    std::int64_t floats_of(const Storage& storage, std::int64_t tile) const {
        const std::int64_t rows = storage.ring ? storage.depth * (tile + 2 * storage.schedule.halo) : 1;
        return rows * storage.channels * region_.stride;
    }

    std::int64_t floats_of_tile(std::int64_t tile) const {
        std::int64_t floats = 0;
        for (const Storage& each : region_.storages)
            floats += floats_of(each, tile);
        return floats;
    }

    /// As few tiles as fit into the cache, as many for each thread as for any other; several threads get two at least,
    /// so that one which the system puts aside holds up no more than its half.
    void choose_tile() {
        const std::int64_t extent = region_.grid[2];
        const std::int64_t least = compilation_.threads == 1 ? 1 : 2 * compilation_.threads;
        for (std::int64_t tiles = std::min(least, extent);; tiles += compilation_.threads) {
            region_.tile = (extent + tiles - 1) / tiles;
            const auto bytes = floats_of_tile(region_.tile) * static_cast<std::int64_t>(sizeof(float));
            if (bytes <= tile_bytes || region_.tile <= least_tile)
                break;
        }
        region_.tiles = (extent + region_.tile - 1) / region_.tile;
    }

    void lay_out() {
        region_.grid = graph_.node(task_.output()).shape;
        const std::int64_t voxels = rounded_up(region_.grid[4], 2 * row_multiple); // an upsampling writes so many
        region_.stride = voxels + row_margin;
        choose_tile();
        std::int64_t blend = 0;
        std::int64_t low_rows = 0;
        for (const Group& group : region_.groups)
            for (const Stage& each : group.stages) {
                const std::int64_t taps = (2 * each.radius_x + 1) * (2 * each.radius_y + 1);
                const std::int64_t pointers = static_cast<std::int64_t>(each.inputs.size()) * taps + 3 * each.channels;
                region_.most_pointers = std::max(region_.most_pointers, pointers);
                if (each.kind == Stage::Kind::upsample) {
                    blend = std::max(blend, each.array_shape[1] * each.array_shape[4]);
                    low_rows = std::max(low_rows, each.channels);
                }
            }
        constexpr std::int64_t floats_per_pointer = sizeof(const float*) / sizeof(float);
        std::int64_t floats = rounded_up(region_.most_pointers * floats_per_pointer, row_multiple);
        const auto take = [&](std::int64_t count) {
            return std::exchange(floats, floats + rounded_up(count, row_multiple));
        };
        region_.zero_row = take(region_.stride + row_margin);
        region_.blend = take(blend);
        region_.low_rows = take(low_rows * region_.stride + row_margin);
        for (Storage& each : region_.storages) {
            each.width = region_.tile + 2 * each.schedule.halo;
            each.offset = take(floats_of(each, region_.tile));
        }
        region_.thread_floats = floats + row_margin; // behind the last row lies a margin, too
    }

    const Graph& graph_;
    const Compilation& compilation_;
    const Task& task_;
    std::vector<NodeId> outside_;
    std::vector<std::vector<Row>> rows_; ///< by node, for values inside
    std::vector<Schedule> schedules_;    ///< by node
    std::vector<bool> inside_;           ///< by node
    std::vector<Stage> stages_;
    Region region_;
};

/// One thread at work on one tile.
class TileRun {
  public:
    TileRun(const Region& region, const LineKernels& kernels, const Place& place, float* memory)
        : region_(region), kernels_(kernels), place_(place), memory_(memory),
          pointers_(reinterpret_cast<float**>(memory)) {}

    void run(std::int64_t sample, std::int64_t x_begin, std::int64_t x_end) {
        sample_ = sample;
        x_begin_ = x_begin;
        for (std::int64_t line = 0; line < region_.grid[3] + region_.most_lag; ++line)
            for (const Group& group : region_.groups) {
                const std::int64_t y = line - group.schedule.lag;
                if (y < 0 || y >= region_.grid[3])
                    continue;
                const std::int64_t from = std::max<std::int64_t>(0, x_begin - group.schedule.halo);
                const std::int64_t to = std::min(region_.grid[2], x_end + group.schedule.halo);
                for (std::int64_t x = from; x < to; ++x)
                    for (const Stage& stage : group.stages)
                        run(stage, x, y);
            }
    }

  private:
    /// Channel 0 of a storage's line at x and y; the other channels follow, `stride` floats apart.
    float* rows_at(const Storage& storage, std::int64_t x, std::int64_t y) const {
        float* first = memory_ + storage.offset + row_margin;
        if (!storage.ring)
            return first;
        const std::int64_t column = x - (x_begin_ - storage.schedule.halo);
        return first + (y % storage.depth * storage.width + column) * storage.channels * region_.stride;
    }

    /// Pointers to rows at x and y, or to zeros outside the volume; returns where the next pointers go.
    float** point_at(const std::vector<Row>& rows, std::int64_t x, std::int64_t y, float** to) const {
        if (x < 0 || x >= region_.grid[2] || y < 0 || y >= region_.grid[3])
            return std::fill_n(to, rows.size(), memory_ + region_.zero_row + row_margin);
        int storage = -1;
        float* first = nullptr;
        for (const Row& row : rows) {
            if (row.storage != storage) {
                storage = row.storage;
                first = rows_at(region_.storages[static_cast<std::size_t>(storage)], x, y);
            }
            *to++ = first + row.channel * region_.stride;
        }
        return to;
    }

    float** point_at_output(const Stage& stage, std::int64_t x, std::int64_t y, float** to) const {
        float* first = rows_at(region_.storages[static_cast<std::size_t>(stage.storage)], x, y);
        for (std::int64_t c = 0; c < stage.channels; ++c)
            *to++ = first + c * region_.stride;
        return to;
    }

    /// Zeros behind the last voxel, for kernels that reach along z.
    void clear_tail(float* const* rows, std::int64_t channels, std::int64_t written) const {
        const std::int64_t tail = written - region_.grid[4];
        if (tail > 0)
            for (std::int64_t c = 0; c < channels; ++c)
                std::fill_n(rows[c] + region_.grid[4], tail, 0.0F);
    }

    std::int64_t padded() const { return rounded_up(region_.grid[4], row_multiple); }

    void run(const Stage& stage, std::int64_t x, std::int64_t y) {
        switch (stage.kind) {
        case Stage::Kind::load: return load(stage, x, y);
        case Stage::Kind::upsample: return upsample(stage, x, y);
        case Stage::Kind::convolve: return convolve(stage, x, y);
        case Stage::Kind::add: return add(stage, x, y);
        case Stage::Kind::store: return store(stage, x, y);
        }
    }

    std::int64_t line_index(std::int64_t x, std::int64_t y) const {
        return (sample_ * region_.grid[2] + x) * region_.grid[3] + y;
    }

    const float* array_line(const Stage& stage, std::int64_t x, std::int64_t y) const {
        return place_.inputs[stage.array] + line_index(x, y) * region_.grid[4] * stage.array_channels +
               stage.array_begin;
    }

    void load(const Stage& stage, std::int64_t x, std::int64_t y) {
        point_at_output(stage, x, y, pointers_);
        kernels_.to_rows({stage.array_channels, stage.channels, region_.grid[4]}, array_line(stage, x, y), pointers_);
        clear_tail(pointers_, stage.channels, padded());
    }

    void store(const Stage& stage, std::int64_t x, std::int64_t y) {
        point_at(stage.inputs, x, y, pointers_);
        kernels_.to_voxels({stage.channels, stage.channels, region_.grid[4]}, pointers_,
                           place_.output + line_index(x, y) * region_.grid[4] * stage.channels);
    }

    void upsample(const Stage& stage, std::int64_t x, std::int64_t y) {
        const Shape& in = stage.array_shape;
        const Neighbours nx = neighbours(Interpolation::trilinear, x, in[2], region_.grid[2]);
        const Neighbours ny = neighbours(Interpolation::trilinear, y, in[3], region_.grid[3]);
        const auto line = [&](std::int64_t a, std::int64_t b) {
            return place_.inputs[stage.array] + ((sample_ * in[2] + a) * in[3] + b) * in[4] * in[1];
        };
        RowUpsampling u;
        u.lines = {line(nx.low, ny.low), line(nx.low, ny.high), line(nx.high, ny.low), line(nx.high, ny.high)};
        u.weights = {nx.low_weight * ny.low_weight, nx.low_weight * ny.high_weight, nx.high_weight * ny.low_weight,
                     nx.high_weight * ny.high_weight};
        u.voxels = in[4];
        u.channels = stage.channels;
        u.activation = stage.activation;
        u.blend = memory_ + region_.blend;
        u.outputs = pointers_;
        float** next = point_at_output(stage, x, y, pointers_);
        u.rows = next;
        for (std::int64_t c = 0; c < stage.channels; ++c)
            *next++ = memory_ + region_.low_rows + row_margin + c * region_.stride;
        if (!stage.residual.empty()) {
            u.residual = next;
            point_at(stage.residual, x, y, next);
        }
        kernels_.upsample(u);
        clear_tail(pointers_, stage.channels, rounded_up(region_.grid[4], 2 * row_multiple));
    }

    void convolve(const Stage& stage, std::int64_t x, std::int64_t y) {
        RowConvolution c;
        float** next = pointers_;
        c.inputs = next;
        for (std::int64_t dx = -stage.radius_x; dx <= stage.radius_x; ++dx)
            for (std::int64_t dy = -stage.radius_y; dy <= stage.radius_y; ++dy)
                next = point_at(stage.inputs, x + dx, y + dy, next);
        c.rows = next - pointers_;
        c.three_along_z = stage.three_along_z;
        c.weights = stage.weights.data();
        c.bias = stage.bias.data();
        if (!stage.residual.empty()) {
            c.residual = next;
            next = point_at(stage.residual, x, y, next);
        }
        c.outputs = next;
        point_at_output(stage, x, y, next);
        c.channels = stage.channels;
        c.floats = padded();
        c.activation = stage.activation;
        kernels_.convolve(c);
        clear_tail(next, stage.channels, padded());
    }

    void add(const Stage& stage, std::int64_t x, std::int64_t y) {
        RowSum s;
        s.inputs = pointers_;
        float** next = point_at(stage.inputs, x, y, pointers_);
        s.terms = static_cast<std::int64_t>(stage.inputs.size()) / stage.channels;
        s.outputs = next;
        point_at_output(stage, x, y, next);
        s.channels = stage.channels;
        s.floats = padded();
        s.activation = stage.activation;
        kernels_.add(s);
    }

    const Region& region_;
    const LineKernels& kernels_;
    const Place& place_;
    float* memory_;
    float** pointers_;
    std::int64_t sample_ = 0;
    std::int64_t x_begin_ = 0;
};

class FusionGroup final : public Operation {
  public:
    FusionGroup(Region region, int threads) : region_(std::move(region)), slots_(static_cast<std::size_t>(threads)) {}

    std::string implementation() const override { return std::string("mfres:fused:") + row_kernels().name; }
    std::int64_t scratch_bytes() const override {
        return std::ssize(slots_) * region_.thread_floats * static_cast<std::int64_t>(sizeof(float));
    }
    std::int64_t constant_bytes() const override {
        return region_.constant_floats * static_cast<std::int64_t>(sizeof(float));
    }
    void bind(const Place& place) override { place_ = place; }

    void run(dnnl::stream&) override {
        for (Slot& slot : slots_)
            slot.clean = false;
        // A part per tile: a thread that the system puts aside delays one tile, not its share of the volume.
        run_parts(static_cast<int>(region_.grid[0] * region_.tiles), [&](int part) {
            const std::size_t taken = take_slot();
            Slot& slot = slots_[taken];
            float* memory =
                reinterpret_cast<float*>(place_.scratch) + static_cast<std::int64_t>(taken) * region_.thread_floats;
            if (!std::exchange(slot.clean, true))
                std::fill_n(memory, region_.thread_floats, 0.0F); // the rows' margins
            TileRun tile(region_, row_kernels(), place_, memory);
            const std::int64_t x = part % region_.tiles * region_.tile;
            tile.run(part / region_.tiles, x, std::min(x + region_.tile, region_.grid[2]));
            slot.busy.clear(std::memory_order_release);
        });
    }

  private:
    /// Memory for one tile at a time.
    struct Slot {
        std::atomic_flag busy;
        bool clean = false; ///< margins are zero in this run
    };

    /// There are as many as threads; should a host's loop have more, they wait.
    std::size_t take_slot() {
        for (std::size_t slot = 0;; slot = (slot + 1) % slots_.size())
            if (!slots_[slot].busy.test_and_set(std::memory_order_acquire))
                return slot;
    }

    Region region_;
    std::vector<Slot> slots_;
    Place place_;
};

} // namespace

bool can_fuse() {
    return row_kernels().lanes > 1;
}

std::unique_ptr<Operation> make_fused_region(const Compilation& compilation, const Task& task) {
    return std::make_unique<FusionGroup>(RegionMaker(compilation, task).make(), compilation.threads);
}

} // namespace mfres::onednn
