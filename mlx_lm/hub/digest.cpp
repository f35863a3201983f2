#include "mlx_lm/hub/digest.h"

#include "mlx_lm/hub/bridge.h"

namespace mlx_lm {

struct Sha256::State {
  rust::Box<bridge::BridgeDigest> digest = bridge::digest_new();
};

Sha256::Sha256() : state_(std::make_unique<State>()) {}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::update(std::span<const std::byte> data) {
  state_->digest->update({reinterpret_cast<const uint8_t*>(data.data()), data.size()});
}

std::string Sha256::hex() const { return std::string(state_->digest->hex()); }

}  // namespace mlx_lm
