// mlx_lm chat: a conversation at the terminal. Flags and defaults are mlx_lm.chat's, and more.
#include <algorithm>

#include "mlx_lm/base/error.h"
#include "mlx_lm/cli/chat_commands.h"
#include "mlx_lm/cli/chat_file.h"
#include "mlx_lm/cli/chat_screen.h"
#include "mlx_lm/cli/chat_settings.h"
#include "mlx_lm/cli/commands.h"
#include "mlx_lm/cli/flags.h"
#include "mlx_lm/cli/progress.h"
#include "mlx_lm/generate/chat_session.h"
#include "mlx_lm/load/json_file.h"

namespace mlx_lm::cli {
namespace {

using nlohmann::json;

// So that a long prompt can be stopped.
constexpr int kPrefillStep = 512;

struct Flags {
  ModelFlags model;
  SamplingFlags sampling;
  std::optional<std::string> system_prompt;
  int max_tokens = 256;
  CacheFlags cache;
  std::string chat_template_config;
};

void add_flags(CLI::App& app, Flags& f) {
  add_model_flags(app, f.model);
  app.add_option("--system-prompt", f.system_prompt, "System message for the chat template");
  add_number(app, "-m,--max-tokens", f.max_tokens, "Tokens of an answer at most; -1: no limit")->capture_default_str();
  f.sampling.sampler.seed = 0;
  add_sampling_flags(app, f.sampling);
  add_cache_flags(app, f.cache);
  app.add_option("--chat-template-config", f.chat_template_config,
                 "JSON object of more variables for the chat template");
}

json template_variables(const std::string& text) {
  if (text.empty()) return json::object();
  auto value = parse_json(text, "--chat-template-config");
  if (!value.is_object()) {
    fail<RequestError>("[chat] chat-template-config: expected a JSON object, found '{}'", text.substr(0, 60));
  }
  return value;
}

class Chat {
 public:
  Chat(Loaded& loaded, const Flags& flags, ChatSession::Options options, ChatSettings settings)
      : loaded_(loaded),
        name_(name_of(flags.model)),
        adapter_(flags.model.adapter_path),
        cache_(flags.cache),
        session_(*loaded.model, loaded.tokenizer, std::move(options)),
        settings_(std::move(settings)),
        screen_(interrupts_) {
    set_up_steps();
  }

  int run() {
    show_header();
    while (auto line = screen_.read(stopped_)) {
      stopped_ = false;
      try {
        if (!take(*line)) break;
      } catch (const Error& error) {
        // Where nobody sees it, what follows would be answered as if nothing had happened.
        if (!screen_.is_interactive()) throw;
        screen_.warn(error.what());
      }
      if (stopped_ && !screen_.is_interactive()) return kInterrupted;
    }
    screen_.note("bye");
    return 0;
  }

 private:
  using Kind = ChatCommand::Kind;

  bool take(const std::string& line) {
    const auto command = parse_command(line);
    if (!command) {
      say(to_message(line));
      return true;
    }
    run(*command);
    return command->kind != Kind::quit;
  }

  void run(const ChatCommand& command) {
    const auto& argument = command.argument;
    switch (command.kind) {
      case Kind::help:
        return screen_.report(command_help());
      case Kind::reset:
        session_.reset();
        waiting_.reset();
        return screen_.note("reset context cleared");
      case Kind::undo:
        waiting_.reset();
        return screen_.note(session_.undo() ? fmt::format("taken back; {} left", count(session_.turns().size(), "turn"))
                                            : "there is nothing to take back");
      case Kind::retry:
        if (settings_.sampler.temp == 0) screen_.note("temp is 0, so the answer may well be the same: /set temp 0.7");
        return answer(session_.retry(steps_with_stop()));
      case Kind::drop:
        return drop();
      case Kind::system:
        return set_system(argument);
      case Kind::set:
        return set(argument);
      case Kind::stats:
        return show_stats();
      case Kind::save:
        save_chat(argument, {name_, session_.system(), session_.turns(), settings_.to_json()});
        return screen_.note(fmt::format("{} saved", count(session_.turns().size(), "turn")));
      case Kind::load:
        return load(argument);
      case Kind::quit:
        return;
    }
  }

  void say(const std::string& message) {
    try {
      answer(session_.say(message, steps_with_stop()));
    } catch (const ContextFull& full) {
      if (!screen_.is_interactive()) {
        const int dropped = session_.make_room(message, settings_.max_tokens);
        screen_.warn(fmt::format("the context is full: going on without the oldest {}", count(dropped, "turn")));
        return answer(session_.say(message, steps_with_stop()));
      }
      if (session_.turns().empty()) throw;
      waiting_ = message;
      screen_.warn(full.what());
      screen_.note("/drop goes on without the oldest turns, /undo takes the last one back, /reset starts anew");
    }
  }

  void drop() {
    if (!waiting_) return screen_.note("the context is not full; nothing was dropped");
    const auto message = *std::exchange(waiting_, std::nullopt);
    const int dropped = session_.make_room(message, settings_.max_tokens);
    screen_.note(fmt::format("without the oldest {}:", count(dropped, "turn")));
    answer(session_.say(message, steps_with_stop()));
  }

  void answer(Generator<ChatPiece> pieces) {
    using PartKind = text::AnswerPart::Kind;
    waiting_.reset();
    screen_.begin_answer();
    bool text = false, reasoning = false;
    for (auto& piece : pieces) {
      for (const auto& part : piece.parts) {
        (part.kind == PartKind::reasoning ? reasoning : text) = true;
        if (part.kind == PartKind::reasoning) {
          screen_.reasoning(part.text);
        } else if (part.kind == PartKind::tool_call) {
          screen_.text(fmt::format("\n`{}({})`\n", part.call.name, part.call.arguments));
        } else {
          screen_.text(part.text);
        }
      }
      if (interrupts_.take()) stop_.request_stop();
      last_ = piece.response;
    }
    screen_.end_answer();
    stopped_ = last_->finish_reason == FinishReason::cancelled;
    if (reasoning && !text && !screen_.is_interactive())
      screen_.warn("the answer ended in the middle of its reasoning");
    screen_.note(figures());
    interrupts_.take();  // more of them, which meant the answer
  }

  // A new stop for each answer, with the rest as it is set.
  StepOptions steps_with_stop() {
    stop_ = {};
    auto options = steps_;
    options.stop = stop_.get_token();
    options.prompt_progress_callback = [this, show = progress_.callback()](int done, int total) {
      if (interrupts_.take()) stop_.request_stop();
      show(stop_.stop_requested() ? total : done, total);
    };
    return options;
  }

  // The sampler's random numbers go on from answer to answer.
  void set_up_steps() {
    steps_ = settings_.options(loaded_.tokenizer, loaded_.model->vocab_size());
    steps_.prefill_step_size = kPrefillStep;
    cache_.set(steps_);
  }

  void set_system(const std::string& text) {
    if (text == "off") {
      session_.set_system(std::nullopt);
    } else if (!text.empty()) {
      session_.set_system(text);
    }
    screen_.report(session_.system() ? "system: " + *session_.system() : "no system message");
  }

  void set(const std::string& argument) {
    const auto space = std::min(argument.find_first_of(" \t="), argument.size());
    const auto name = argument.substr(0, space);
    const auto start = std::min(argument.find_first_not_of(" \t=", space), argument.size());
    if (name.empty()) {
      for (const auto each : ChatSettings::names()) {
        screen_.report(fmt::format("  {:<26}{}", each, settings_.get(std::string(each))));
      }
      return;
    }
    if (start < argument.size()) {
      settings_.set(name, argument.substr(start));
      set_up_steps();
    }
    screen_.report(fmt::format("{} {}", name, settings_.get(name)));
  }

  void load(const std::string& file) {
    auto chat = load_chat(file);
    auto settings = settings_;
    settings.set_all(chat.settings);
    settings_ = std::move(settings);
    set_up_steps();
    session_.set_system(std::move(chat.system));
    session_.set_turns(std::move(chat.turns));
    waiting_.reset();
    screen_.note(fmt::format("{} loaded", count(session_.turns().size(), "turn")));
    if (!chat.model.empty() && chat.model != name_) screen_.note("saved with another model: " + chat.model);
  }

  void show_header() {
    screen_.title("mlx_lm.chat  " + name_);
    if (!adapter_.empty()) screen_.note("adapter " + adapter_);
    if (session_.system()) screen_.note("system: " + *session_.system());
    const auto context = session_.context_size() > 0 ? count(session_.context_size(), "token") : "no limit";
    screen_.note(fmt::format("max tokens {} · context {} · /help, Ctrl-D ends", settings_.max_tokens, context));
  }

  std::string figures() const {
    auto line = fmt::format("{} tokens · {:.1f} tok/s · prompt {:.1f} tok/s · peak {:.2f} GB", last_->generation_tokens,
                            last_->generation_tps, last_->prompt_tps, last_->peak_memory);
    if (stopped_) {
      line += last_->generation_tokens > 0 ? " · stopped" : " · stopped; the message is taken back";
    } else if (last_->finish_reason == FinishReason::length) {
      line += session_.is_full() ? " · the context is full: /undo, /reset, or go on and /drop" : " · cut at max-tokens";
    }
    return line;
  }

  void show_stats() {
    const int held = session_.held_tokens(), size = session_.context_size();
    auto text = fmt::format("{}, {} in the context{}", count(session_.turns().size(), "turn"), count(held, "token"),
                            size > 0 ? fmt::format(" of {} ({:.0f} %)", size, 100. * held / size) : "");
    if (last_) {
      text += fmt::format("\nlast prompt: {} computed, {} there already\n", count(last_->prompt_tokens, "token"),
                          session_.reused_tokens());
      text += figures();
    }
    screen_.report(text);
  }

  static std::string count(size_t n, const char* what) { return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s"); }

  Loaded& loaded_;
  std::string name_, adapter_;
  CacheFlags cache_;
  ChatSession session_;
  ChatSettings settings_;
  StepOptions steps_;
  Interrupts interrupts_;
  ChatScreen screen_;
  PrefillProgress progress_;
  std::stop_source stop_;
  bool stopped_ = false;                    // the last answer, by Ctrl-C
  std::optional<std::string> waiting_;      // a message for which there is no room
  std::optional<GenerationResponse> last_;  // of the last answer
};

int run(Flags& f) {
  // What can be wrong without a model is told before one is loaded.
  check(f.sampling);
  ChatSettings settings{.max_tokens = f.max_tokens, .sampler = f.sampling.sampler, .penalties = f.sampling.penalties};
  settings.set("max-tokens", std::to_string(f.max_tokens));
  StepOptions steps;
  f.cache.set(steps);
  steps.validate();
  auto variables = template_variables(f.chat_template_config);
  set_up(f.model);

  // Never destroyed: the system takes its memory back at once, without freeing 100,000 strings first.
  static auto& loaded = *new Loaded(load_model(f.model));
  int context = context_size(loaded.config);
  if (const int most = f.cache.max_kv_size; most > 0) context = context > 0 ? std::min(context, most) : most;
  Chat chat(loaded, f, {f.system_prompt, context, std::move(variables)}, std::move(settings));
  return chat.run();
}

}  // namespace

Command add_chat(CLI::App& program) {
  auto flags = std::make_shared<Flags>();
  auto* app = add_command(program, "chat", "Talk with a model");
  add_flags(*app, *flags);
  return {app, [flags] { return run(*flags); }};
}

}  // namespace mlx_lm::cli
