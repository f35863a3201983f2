#include "mlx_lm/hub/download.h"

#include "mlx_lm/hub/bridge.h"
#include "mlx_lm/hub/progress.h"

namespace mlx_lm {

std::filesystem::path download_snapshot(const std::string& repo, const DownloadOptions& options) {
  return bridge::call<Error>([&] {
    // Names from the command line may be any bytes; only UTF-8 crosses the border.
    bridge::SnapshotRequest request{
        rust::String::lossy(repo), rust::String::lossy(options.revision), {}, options.offline};
    for (const auto& pattern : options.patterns) request.patterns.push_back(rust::String::lossy(pattern));
    const bridge::Progress progress(options.progress);
    return std::filesystem::path(std::string(bridge::download_snapshot(request, progress)));
  });
}

}  // namespace mlx_lm
