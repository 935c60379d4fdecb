// SPDX-License-Identifier: MIT
// The report of a selftest as JSON and as text.
#include "core/format.h"
#include "core/json_value.h"
#include "core/try.h"

#include <mfres/selftest.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace mfres {

std::string to_json(const SelftestReport& report) {
    OrderedJson json = {{"version", version()}, {"passed", report.first_failure() == nullptr}};
    json["checks"] = OrderedJson::array();
    for (const SelftestCheck& check : report.checks) {
        OrderedJson entry = {{"name", check.name}, {"passed", !check.failure}};
        if (check.failure)
            entry["error"] = {{"code", name(check.failure->code)},
                              {"message", check.failure->message},
                              {"where", check.failure->where}};
        else
            entry["found"] = check.found;
        entry["milliseconds"] = std::round(check.milliseconds);
        json["checks"].push_back(std::move(entry));
    }
    json["not_run"] = report.not_run;
    return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

std::string to_text(const SelftestReport& report) {
    std::string lines;
    std::size_t failed = 0;
    std::size_t width = 0;
    for (const SelftestCheck& check : report.checks)
        width = std::max(width, check.name.size());
    for (const SelftestCheck& check : report.checks) {
        failed += check.failure ? 1 : 0;
        std::array<char, 32> seconds{};
        print_classic(seconds.data(), seconds.size(), "%8.2f s  ", check.milliseconds / 1000.0);
        lines += (check.failure ? "FAILED  " : "passed  ") + check.name + std::string(width - check.name.size(), ' ') +
                 seconds.data();
        lines += escape_controls(check.failure ? text("[", name(check.failure->code), "] ", check.failure->message)
                                               : check.found) +
                 "\n";
    }
    for (const std::string& backend : report.not_run)
        lines += "not run: " + escape_controls(backend) + "\n";
    const std::size_t all = report.checks.size();
    return lines + (failed == 0 ? text("mfres ", version(), ": all ", all, " checks passed\n")
                                : text("mfres ", version(), ": ", failed, " of ", all, " checks FAILED\n"));
}

} // namespace mfres
