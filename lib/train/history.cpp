// SPDX-License-Identifier: MIT
#include "train/history.h"

#include "core/csv.h"
#include "core/format.h"

#include <array>

namespace mfres {

namespace {

/// ",0.812345,0.7,0.6" with enough digits to distinguish two measurements.
std::string dice_columns(const RegionDice& dice) {
    std::array<char, 80> columns{};
    print_classic(columns.data(), columns.size(), ",%.6f,%.6f,%.6f", dice[0], dice[1], dice[2]);
    return columns.data();
}

} // namespace

std::string metrics_csv(std::span<const TrainRow> rows) {
    std::string table = "step,loss,learning_rate,gradient_norm,seconds,voxels_per_second,wait_share,wt,tc,et,skipped\n";
    for (const TrainRow& row : rows) {
        std::array<char, 240> line{};
        print_classic(line.data(), line.size(), "%lld,%.9g,%.9g,%.6g,%.2f,%.0f,%.4f", static_cast<long long>(row.step),
                      row.loss, row.learning_rate, row.gradient_norm, row.seconds, row.voxels_per_second,
                      row.wait_share);
        table += line.data();
        table += (row.dice ? dice_columns(*row.dice) : ",,,") + ',' + std::to_string(row.skipped) + '\n';
    }
    return table;
}

std::string validation_csv(std::span<const Validation> validations) {
    std::string table = "step,case,wt,tc,et\n";
    for (const Validation& validation : validations) {
        const std::string step = std::to_string(validation.step) + ',';
        for (const ValidationCase& entry : validation.cases)
            table += step + csv_cell(entry.id) + dice_columns(entry.dice) + '\n';
        table += step + "mean" + dice_columns(validation.mean) + '\n';
    }
    return table;
}

} // namespace mfres
