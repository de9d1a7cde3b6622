"""What each part of the samplers is worth: builds the program without it, and compares.

    python ablation.py --seeds 20 --out ablation.jsonl
    python compare.py report ablation.jsonl

Each part is taken out in a copy of the sources that git has, by replacing a piece of code that must be there."""
import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TPE, WARP, FIT, GP = (f"src/core/sampler/{name}.rs" for name in ("tpe", "gp/warp", "gp/fit", "gp/mod"))

# name: (sampler, file, code, what stands in its place)
PARTS = {
    "tpe without narrow kernels": ("tpe", TPE, "const NARROWEST: f64 = 0.3;", "const NARROWEST: f64 = 1.0;"),
    "tpe without weights by merit": ("tpe", TPE, "weights[at] = (rank + 1) as f64 * step;", "weights[at] = 1.0 + 0.0 * rank as f64 * step;"),
    "tpe without memory of what was tried": ("tpe", TPE, "tried.is_none_or(|tried| !tried.has(point))", "tried.is_none() || !point.is_empty()"),
    "gp without warping": ("gp", WARP, "    let warped: Vec<Option<f64>> = outcomes.iter().map(|outcome| outcome.value().map(log)).collect();",
                               "    let _ = log;\n    let warped: Vec<Option<f64>> = outcomes.iter().map(|outcome| outcome.value()).collect();"),
    "gp without the narrow prior": ("gp", FIT, "        value += log + 0.5 * (log - location) * (log - location);\n        *gradient += 1.0 + (log - location);",
                                       "        let location = location + std::f64::consts::SQRT_2;\n        value += log + (log - location) * (log - location) / 6.0;\n        *gradient += 1.0 + (log - location) / 3.0;"),
    "gp without the mean as incumbent": ("gp", GP, "let incumbent = means[order[0]];", "let incumbent = outputs.iter().copied().fold(f64::INFINITY, f64::min);"),
}


def build(work, commit, part, target):
    """The program without a part, or whole."""
    source = work / "source"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir()
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x"], cwd=source, input=archive, check=True)
    if part is not None:
        _, file, code, instead = PARTS[part]
        text = (source / file).read_text()
        if text.count(code) != 1:
            sys.exit(f"{file} has not exactly one `{code}`: mend the part '{part}'")
        (source / file).write_text(text.replace(code, instead))
    subprocess.run(["cargo", "build", "--release", "--locked", "--bin", "sweep", "--target-dir", target], cwd=source, check=True)
    program = work / f"sweep-{len(list(work.iterdir()))}"
    shutil.copy(pathlib.Path(target) / "release" / "sweep", program)
    return program


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="left out: all of them; each is a build of minutes")
    parser.add_argument("--problems", default="all")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--target", default=str(ROOT / "target"), help="where cargo builds")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
        whole = build(work, commit, None, args.target)
        samplers = [f"{name}={name}@{whole} ask-tell" for name in ("tpe", "gp")]
        samplers += [f"{part}={PARTS[part][0]}@{build(work, commit, part, args.target)} ask-tell" for part in args.parts.split(",")]
        subprocess.run([sys.executable, HERE / "compare.py", "run", "--samplers", ",".join(samplers), "--problems", args.problems,
                        "--seeds", str(args.seeds), "--out", args.out], check=True)


if __name__ == "__main__":
    main()
