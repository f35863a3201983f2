#!/usr/bin/env python3
"""Speed of mlx-lm.cpp beside its peers on a CPU: the same machine and model, in alternating rounds.

  peers.py                                        the default row: SmolLM2-135M GGUF, prompt 512, 128 generated, 2 threads
  peers.py --rows all --markdown t.md --json t.json
  peers.py --model FILE.gguf [--ours-model PATH] --prompt 512 --gen 128 --batch 1 --threads 2

Engines: ours, llama.cpp, openvino (the GGUF as is); llama.cpp:KIND, openvino:KIND (requantized first: q4_0, q8_0, f16, ...);
openvino@KEY=VALUE with a property of OpenVINO, such as openvino@ATTENTION_BACKEND=SDPA.
Every engine stays loaded in a process of its own; one measures while the others wait. README.md tells how to set it up.
"""
import argparse
import collections
import json
import os
import platform
import re
import resource
import shlex
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "mlx-lm.cpp")
OURS = (os.path.join(HERE, "..", "..", "build", "release", "bin", "mlx_lm") +
        " benchmark --model {model} -p {prompt} -g {gen} -b {batch} -n 1 --json")

# name: GGUF of the peers, candidates for ours (the first that exists). {work} is --work.
SMOLLM2 = os.path.join(CACHE, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
SMOLLM2_F16 = "{work}/SmolLM2-135M-Instruct.f16.gguf"
MODELS = {
    "SmolLM2-135M Q4_1": (SMOLLM2, [SMOLLM2]),
    "SmolLM2-135M float16": (SMOLLM2, ["{work}/SmolLM2-135M-f16", SMOLLM2_F16]),
    "Llama-1B shape, 4 bits": ("{work}/llama-1b.gguf", ["{work}/llama-1b"]),
    "Gemma 3 270M": ("{work}/gemma-3-270m.gguf", ["{work}/gemma-3-270m", "{work}/gemma-3-270m.gguf"]),
}

FOUR_BITS = ["llama.cpp", "llama.cpp:q4_0", "openvino", "openvino:q4_0", "ours"]
Row = collections.namedtuple("Row", "model engines threads prompt gen batch needs_ours", defaults=(1, False))
ROWS = {
    "smollm2": Row("SmolLM2-135M Q4_1", FOUR_BITS, None, 512, 128),
    "smollm2-1-thread": Row("SmolLM2-135M Q4_1", FOUR_BITS, 1, 512, 128),
    "smollm2-2048": Row("SmolLM2-135M Q4_1", FOUR_BITS, None, 2048, 128),  # generation at 2,048 tokens of context
    "smollm2-f16": Row("SmolLM2-135M float16", ["llama.cpp:f16", "openvino:f16", "ours"], None, 512, 128),
    "smollm2-batch-4": Row("SmolLM2-135M Q4_1", FOUR_BITS, None, 128, 64, 4),
    "smollm2-batch-8": Row("SmolLM2-135M Q4_1", FOUR_BITS, None, 128, 64, 8),
    "llama-1b": Row("Llama-1B shape, 4 bits", FOUR_BITS, None, 512, 128),
    "gemma3-270m": Row("Gemma 3 270M", FOUR_BITS, None, 512, 128, 1, True),
}
RATES = ("prompt_tps", "generation_tps")


# --- The workers: load, warm up, then one measurement for each line that comes in.

FTYPES = {"f16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7, "q4_k_m": 15, "q6_k": 18}


def of_kind(gguf, kind, work, threads):
    """The path of the GGUF in the kind asked for, made by llama.cpp when it is not there yet."""
    if not kind:
        return gguf
    import ctypes

    import llama_cpp as lc

    stem = re.sub(r"\.(q\d\w*|f16|bf16|f32)$", "", os.path.basename(gguf).removesuffix(".gguf"), flags=re.IGNORECASE)
    out = os.path.join(work, f"{stem}.{kind}.gguf")
    if not os.path.exists(out):
        p = lc.llama_model_quantize_default_params()
        p.ftype, p.allow_requantize, p.nthread = FTYPES[kind], True, threads
        if lc.llama_model_quantize(gguf.encode(), (out + ".part").encode(), ctypes.byref(p)) != 0:
            raise RuntimeError(f"llama.cpp could not make {out}")
        os.replace(out + ".part", out)
    return out


def llama_cpp(path, row, _):
    """As llama-bench and llama-batched-bench do it: chunks of 512 tokens, logits of the last one, no sampling."""
    import llama_cpp as lc

    lc.llama_backend_init()
    model = lc.llama_model_load_from_file(path.encode(), lc.llama_model_default_params())
    if not model:
        raise RuntimeError(f"llama.cpp could not load {path}")
    p = lc.llama_context_default_params()
    p.n_ctx = row.batch * ((row.prompt + row.gen + 255) // 256 * 256)
    p.n_batch = p.n_ubatch = 512
    p.n_threads = p.n_threads_batch = row.threads
    p.n_seq_max = row.batch
    ctx = lc.llama_init_from_model(model, p)
    memory, vocab = lc.llama_get_memory(ctx), lc.llama_vocab_n_tokens(lc.llama_model_get_vocab(model))
    batch = lc.llama_batch_init(512, 0, 1)

    def decode(items):  # (position, sequence, logits wanted)
        batch.n_tokens = len(items)
        for i, (position, sequence, logits) in enumerate(items):
            batch.token[i], batch.pos[i] = (100 + 7919 * position + 31 * sequence) % vocab, position
            batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, sequence, logits
        if lc.llama_decode(ctx, batch) != 0:
            raise RuntimeError("llama_decode failed")
        lc.llama_synchronize(ctx)

    def measure():
        lc.llama_memory_clear(memory, True)
        items = [(i, s, i == row.prompt - 1) for s in range(row.batch) for i in range(row.prompt)]
        t0 = time.perf_counter()
        for start in range(0, len(items), 512):
            decode(items[start:start + 512])
        t1 = time.perf_counter()
        for i in range(row.gen):
            decode([(row.prompt + i, s, True) for s in range(row.batch)])
        t2 = time.perf_counter()
        return row.batch * row.prompt / (t1 - t0), row.batch * row.gen / (t2 - t1)

    return measure


def openvino(path, row, properties):
    """Greedy. Fresh random ids each time, since it keeps a cache of prefixes."""
    import numpy as np
    import openvino as ov
    import openvino_genai as genai

    pipe = genai.LLMPipeline(path, "CPU", INFERENCE_NUM_THREADS=row.threads, **properties)
    config = genai.GenerationConfig()
    config.max_new_tokens, config.ignore_eos, config.do_sample = row.gen, True, False
    rng = np.random.default_rng()

    def generate():
        ids = ov.Tensor(rng.integers(100, 40000, (row.batch, row.prompt), dtype=np.int64))
        mask = ov.Tensor(np.ones((row.batch, row.prompt), dtype=np.int64))
        start = time.perf_counter()
        m = pipe.generate(genai.TokenizedInputs(ids, mask), config).perf_metrics
        return time.perf_counter() - start, m

    def measure():
        if row.batch == 1:
            m = generate()[1]
            return row.prompt / m.get_ttft().mean * 1e3, 1e3 / m.get_tpot().mean
        config.max_new_tokens = 1  # it starts to generate before all prompts are read: time them alone first
        prompts = generate()[0]
        config.max_new_tokens = row.gen
        return row.batch * row.prompt / prompts, row.batch * (row.gen - 1) / (generate()[0] - prompts)

    return measure


def worker(spec):
    answers = os.fdopen(os.dup(1), "w", buffering=1)  # libraries may print: their standard output goes to the log
    os.dup2(2, 1)
    row = Row(**spec["row"])
    try:
        begin = time.perf_counter()
        name, *properties = spec["engine"].split("@")
        family, _, kind = name.partition(":")
        path = of_kind(spec["gguf"], kind, spec["work"], row.threads)
        measure = {"llama.cpp": llama_cpp, "openvino": openvino}[family](path, row, dict(p.split("=") for p in properties))
        measure()
        print(json.dumps({"ready": True, "file": path, "load_and_warm_s": time.perf_counter() - begin}), file=answers)
        for _ in sys.stdin:
            print(json.dumps(dict(zip(RATES, measure()))), file=answers)
    except Exception as error:  # whatever a library throws: the row goes on without this engine
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=answers)
    answers.flush()
    os._exit(0)  # thread pools of the libraries are not waited for


# --- The side that asks.

class Failed(Exception):
    pass


def pin(threads):
    cpus = sorted(os.sched_getaffinity(0))[:threads]
    return lambda: os.sched_setaffinity(0, cpus)


class Peer:
    def __init__(self, name, row, gguf, args):
        spec = {"engine": name, "gguf": gguf, "work": args.work, "row": row._asdict()}
        self.log = open(os.path.join(args.work, f"{re.sub('[:@=]', '_', name)}.log"), "w+")
        self.process = subprocess.Popen([args.python, os.path.abspath(__file__), "--worker", json.dumps(spec)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
                                        preexec_fn=pin(row.threads))
        self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"error": f"ended early, see {self.log.name}"}
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def measure(self):
        try:
            print(file=self.process.stdin, flush=True)
        except BrokenPipeError:
            raise Failed(f"ended, see {self.log.name}") from None
        return self.answer()

    def cpu(self):
        """Seconds of CPU used so far."""
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self):
        self.process.communicate()


def read_ours(text):
    """Rates in the output of ours: the benchmark command (as JSON or as Python mlx-lm prints it)."""
    if text.lstrip().startswith("{"):
        found = json.loads(text)
        return {k: float(found.get("averages", found)[k]) for k in RATES}
    for line in reversed(text.splitlines()):
        found = re.search(r"prompt_tps=([\d.]+).*generation_tps=([\d.]+)", line)
        if found:
            return dict(zip(RATES, map(float, found.groups())))
    raise Failed(f"no rates in its output: {text.strip()[-200:]!r}")


class Ours:
    """A command that loads, warms up and measures once each time."""

    def __init__(self, name, row, model, command):
        if row.batch > 1 and "{batch}" not in command:
            raise Failed("its command has no {batch}")
        self.command = [part.format(model=model, prompt=row.prompt, gen=row.gen, batch=row.batch, threads=row.threads)
                        for part in shlex.split(command)]
        self.threads, self.used = row.threads, 0.0
        if not os.path.exists(model):
            raise Failed(f"no model at {model}")

    def measure(self):
        before = self.children()
        try:
            done = subprocess.run(self.command, capture_output=True, text=True, preexec_fn=pin(self.threads),
                                  env={**os.environ, "MLX_LM_THREADS": str(self.threads)})
        except OSError as error:
            raise Failed(str(error)) from None
        self.used += self.children() - before
        if done.returncode:
            raise Failed((done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1])
        return read_ours(done.stdout)

    @staticmethod
    def children():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    def cpu(self):
        return self.used

    def close(self):
        pass


def machine_cpu():
    """Seconds of CPU used by all of the machine, and those that its host took away."""
    with open("/proc/stat") as stat:
        user, nice, system, _, _, irq, soft, steal = (int(x) / os.sysconf("SC_CLK_TCK") for x in stat.readline().split()[1:9])
    return user + nice + system + irq + soft, steal


def wait_for_quiet(seconds):
    """Until other programs use less than a tenth of a CPU for a second, while no engine works; at most so long."""
    end, busy = time.perf_counter() + seconds, 1.0
    while busy > 0.1 and time.perf_counter() < end:
        before, start = machine_cpu()[0], time.perf_counter()
        time.sleep(1)
        busy = (machine_cpu()[0] - before) / (time.perf_counter() - start)


def open_engines(row, args):
    gguf, ours = ((args.model, [args.ours_model or args.model]) if args.model else MODELS[row.model])
    gguf, ours = gguf.format(work=args.work), [m.format(work=args.work) for m in ours]
    commands = dict(c.split("=", 1) if re.match(r"ours\S*?=", c) else ("ours", c) for c in args.ours or [OURS])
    names = [n for e in args.engines or row.engines for n in (commands if e == "ours" else [e])]  # ours: all its variants
    engines = {}
    if row.needs_ours:
        try:
            Ours("ours", row, next(filter(os.path.exists, ours), ours[0]), next(iter(commands.values()))).measure()
        except Failed as why:
            print(f"  skipped, ours cannot load the model: {why}", file=sys.stderr, flush=True)
            return {}
    for name in sorted(names, key=lambda n: n in commands):  # ours last: a peer may make its file
        try:
            if name in commands:
                engines[name] = Ours(name, row, next(filter(os.path.exists, ours), ours[0]), commands[name])
            elif not os.path.exists(gguf):
                raise Failed(f"no model at {gguf}")
            else:
                engines[name] = Peer(name, row, gguf, args)
        except Failed as why:
            print(f"  {name} is left out: {why}", file=sys.stderr, flush=True)
    return engines


def run(row, args):
    """{engine: [measurement, ...]}, one for each round."""
    engines, results = open_engines(row, args), collections.defaultdict(list)
    for number in range(args.rounds if engines else 0):
        order = list(engines)
        for name in order[number % len(order):] + order[:number % len(order)]:
            wait_for_quiet(args.quiet)
            before, wall = {n: e.cpu() for n, e in engines.items()}, time.perf_counter()
            busy, steal = machine_cpu()
            try:
                result = engines[name].measure()
            except Failed as why:
                print(f"  {name} is left out: {why}", file=sys.stderr, flush=True)
                engines.pop(name)
                continue
            wall = time.perf_counter() - wall
            busy, steal = (now - then for now, then in zip(machine_cpu(), (busy, steal)))
            own = {n: e.cpu() - before[n] for n, e in engines.items()}
            result["idle_cpus"] = sum(s for n, s in own.items() if n != name) / wall  # by waiting engines: about 0
            result["other_cpus"] = (busy - sum(own.values())) / wall  # by other programs
            result["stolen_cpus"] = steal / wall
            results[name].append(result)
            print(f"  {number + 1} {name:20s} prompt {result['prompt_tps']:8.1f}   generation {result['generation_tps']:8.1f}"
                  f"   idle {result['idle_cpus']:.2f}   others {result['other_cpus']:.2f}   stolen {result['stolen_cpus']:.2f}",
                  file=sys.stderr, flush=True)
    for engine in engines.values():
        engine.close()
    return results


# --- Tables.

LABELS = {"ours": "mlx-lm.cpp", "llama.cpp": "llama.cpp, as is", "openvino": "OpenVINO GenAI, as is"}


def label(name):
    name, *properties = name.split("@")
    family, _, kind = name.partition(":")
    text = f"{LABELS[family].split(',')[0]}, {kind.upper()}" if kind and family != "ours" else \
        LABELS.get(name, name.replace("ours", "mlx-lm.cpp"))
    return ", ".join([text, *properties])


def table(title, results):
    """Median (best) of each engine, beside its median over the best peer's."""
    lines = [f"### {title}", "", "| engine | prompt, tokens/s | × best peer | generation, tokens/s | × best peer |",
             "| --- | --- | --- | --- | --- |"]
    middle = {n: {k: statistics.median(r[k] for r in rs) for k in RATES} for n, rs in results.items()}
    best_peer = {k: max((m[k] for n, m in middle.items() if not n.startswith("ours")), default=None) for k in RATES}
    for name, rs in results.items():
        cells = [label(name)]
        for k in RATES:
            cells.append(f"{middle[name][k]:.1f} ({max(r[k] for r in rs):.1f})")
            cells.append(f"{middle[name][k] / best_peer[k]:.2f}" if best_peer[k] else "")
        lines.append(f"| {' | '.join(cells)} |")
    idle = max(r["idle_cpus"] for rs in results.values() for r in rs)
    others = statistics.median(r["other_cpus"] + r["stolen_cpus"] for rs in results.values() for r in rs)
    if idle > 0.05:
        lines += ["", f"Waiting engines used up to {idle:.2f} CPUs: not a fair run."]
    if others > 0.1:
        lines += ["", f"Other programs used {others:.2f} CPUs in the middle: not a quiet machine."]
    return "\n".join(lines) + "\n"


def machine():
    with open("/proc/cpuinfo") as f:
        text = f.read()
    name = re.search(r"model name\s*: (.*)", text)
    flags = re.search(r"(?:flags|Features)\s*: (.*)", text)
    wanted = [f for f in (flags.group(1).split() if flags else []) if re.match(r"(avx|fma|f16c|amx|asimd|sve|i8mm|bf16)", f)]
    return {"cpu": name.group(1) if name else platform.machine(), "cpus": len(os.sched_getaffinity(0)), "flags": wanted}


def versions(python):
    code = ("import importlib.metadata as m\nfor p in ('llama_cpp_python', 'openvino-genai'):\n"
            "  try: print(p, m.version(p))\n  except m.PackageNotFoundError: pass")
    return subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.split("\n")[:-1]


def main():
    if sys.argv[1:2] == ["--worker"]:
        return worker(json.loads(sys.argv[2]))
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--rows", default="smollm2", help=f"all, or some of {','.join(ROWS)}")
    ap.add_argument("--model", help="GGUF of a row of your own instead of --rows")
    ap.add_argument("--ours-model", help="what ours loads for it (default: the GGUF)")
    ap.add_argument("--engines", type=lambda s: s.split(","), help="such as llama.cpp,llama.cpp:q4_0,openvino,ours")
    ap.add_argument("--threads", type=int, default=min(2, os.cpu_count()), help="and as many CPUs (default %(default)s)")
    ap.add_argument("--prompt", type=int, help="tokens of the prompt")
    ap.add_argument("--gen", type=int, help="tokens to generate")
    ap.add_argument("--depth", type=int, help="generate after so many tokens of context (the same as --prompt)")
    ap.add_argument("--batch", type=int, help="sequences at once")
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--quiet", type=float, default=0, metavar="SECONDS",
                    help="wait at most so long before each measurement until other programs rest")
    ap.add_argument("--ours", action="append", metavar="[ours:NAME=]COMMAND",
                    help="shell words with {model} {prompt} {gen} {batch} {threads}; repeat it for variants (default mlx_lm benchmark)")
    ap.add_argument("--python", default=sys.executable, help="the Python that has the peers")
    ap.add_argument("--work", default=os.path.join(CACHE, "peers"), help="folder of the files made (default %(default)s)")
    ap.add_argument("--markdown", help="write the tables there too")
    ap.add_argument("--json", help="write every measurement there")
    args = ap.parse_args()
    os.makedirs(args.work, exist_ok=True)
    if args.model:
        rows = {"own": Row(os.path.basename(args.model), FOUR_BITS, None, 512, 128)}
    else:
        rows = {n: ROWS[n] for n in (ROWS if args.rows == "all" else args.rows.split(","))}

    record = {"machine": machine(), "versions": versions(args.python), "rounds": args.rounds, "rows": {}}
    tables = []
    for name, row in rows.items():
        row = row._replace(threads=row.threads or args.threads, prompt=args.depth or args.prompt or row.prompt,
                           gen=args.gen or row.gen, batch=args.batch or row.batch)
        title = (f"{row.model}, prompt {row.prompt:,}, generation {row.gen:,}, {row.threads} thread{'s' * (row.threads > 1)}"
                 + f", {row.batch} sequences" * (row.batch > 1))
        print(f"{name}: {title}", file=sys.stderr, flush=True)
        results = run(row, args)
        record["rows"][name] = {**row._asdict(), "title": title, "results": results}
        if results:
            tables.append(table(title, results))
            print(tables[-1], flush=True)
        if args.json:  # after each row: a long run may be stopped
            with open(args.json, "w") as f:
                json.dump(record, f, indent=1)
        if args.markdown:
            with open(args.markdown, "w") as f:
                print(*tables, sep="\n", end="", file=f)


if __name__ == "__main__":
    main()
