//! The last words of a trainer that failed: the end of its log, and the line in it that says best what went wrong.

use std::collections::VecDeque;

use crate::shown::shown;

/// How many of a log's last lines are looked at: what launchers and loggers print behind an exception is long.
pub const LOOKED_AT: usize = 200;

/// How many lines of a log a Trial's status keeps.
const TAIL_LINES: usize = 20;

/// How many characters of a log a Trial's status keeps.
const TAIL_CHARACTERS: usize = 4096;

/// How many characters of a line a message quotes.
const QUOTED: usize = 512;

/// The last lines of a log as a terminal would show them, bounded. None where there is nothing to see.
pub fn tail(log: &str) -> Option<String> {
    let lines = last_lines(log, TAIL_LINES).join("\n");
    let surplus = lines.chars().count().saturating_sub(TAIL_CHARACTERS);
    let text: String = lines.chars().skip(surplus).collect();
    (!text.is_empty()).then_some(text)
}

/// `message`, and the line of a log that says best what went wrong, where there is one.
pub fn with_line(message: String, line: Option<&str>) -> String {
    match line {
        Some(line) => format!("{message}: {line}"),
        None => message,
    }
}

/// The line that says best what went wrong: the last exception, whatever launchers, loggers and progress bars have
/// printed behind it; where there is none, the last complaint, or the last line that is not of those. A line that ends
/// with a colon is followed by the next one. Cleaned and bounded; None where there is nothing to see.
///
/// An exception behind which the trainer has gone on, as its steps show, was handled, and so was one that stands
/// without a traceback before a complaint.
pub fn failure(log: &str) -> Option<String> {
    let lines = last_lines(log, LOOKED_AT);
    let at = failure_at(&lines)?;
    let mut text = unprefixed(&lines[at]).0.trim().to_owned();
    let next = lines[at + 1..].iter().map(|line| unprefixed(line).0.trim()).find(|line| !is_rule(line));
    if let Some(next) = next.filter(|next| text.ends_with(':') || next.starts_with("what():")) {
        text += &format!(" {next}");
    }
    Some(match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    })
}

/// The lines up to the one that says best what went wrong, `count` at most.
pub fn up_to_failure(log: &str, count: usize) -> Vec<String> {
    let mut lines = last_lines(log, LOOKED_AT);
    lines.truncate(failure_at(&lines).map_or(0, |at| at + 1));
    let from = lines.len().saturating_sub(count);
    lines[from..].iter().map(|line| line.trim().to_owned()).collect()
}

/// The last lines that show something.
fn last_lines(log: &str, count: usize) -> Vec<String> {
    let mut last = VecDeque::new();
    for line in log.lines().rev() {
        let line = shown(line);
        if !line.is_empty() {
            last.push_front(line.into_owned());
        }
        if last.len() == count {
            break;
        }
    }
    last.into()
}

/// What a line is for who looks for a failure.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// The exception that a traceback ends with, or another way to end for which there is no second reading.
    Exception,
    /// Looks like an exception, with nothing before it that does.
    ExceptionAlone,
    /// An exception that says that another process, or a person, has ended this one.
    Echo,
    /// Launchers, loggers, progress bars, the inner lines of a traceback.
    Noise,
    /// The trainer goes on.
    Step,
    /// Says that something is wrong, such as a logger at the level of errors.
    Complaint,
    /// Anything else.
    Words,
}

/// Which line says best what went wrong.
fn failure_at(lines: &[String]) -> Option<usize> {
    let kinds = kinds(lines);
    let (mut words, mut complaint, mut echo) = (None, None, None);
    for (at, kind) in kinds.iter().enumerate().rev() {
        match kind {
            Kind::Exception => return Some(at),
            Kind::ExceptionAlone if complaint.is_none() => return Some(at),
            Kind::ExceptionAlone | Kind::Noise => {}
            Kind::Echo => echo = echo.or(Some(at)),
            Kind::Complaint => complaint = complaint.or(Some(at)),
            Kind::Words => words = words.or(Some(at)),
            Kind::Step => {
                words = words.or(Some(at));
                break;
            }
        }
    }
    complaint.or(echo).or(words).or(lines.len().checked_sub(1))
}

fn kinds(lines: &[String]) -> Vec<Kind> {
    let mut kinds = Vec::with_capacity(lines.len());
    // Whether a traceback is under way, and whether Python has gone on all the same.
    let (mut inside, mut ignored) = (false, false);
    let (mut framed, mut warned) = (false, false);
    for line in lines {
        let (line, of_many) = unprefixed(line);
        let kind = if line.contains("Traceback (most recent call last)") {
            inside = true;
            Kind::Noise
        } else if line.starts_with([' ', '│', '╭', '╰', '❱']) {
            framed = true;
            // A frame, or the source line behind a warning; else a line like any other.
            let belongs = inside || warned || !line.starts_with(' ');
            kinds.push(if belongs { Kind::Noise } else { kind(line.trim_start(), false, false, of_many) });
            continue;
        } else if line.starts_with("Exception ignored in") || line.starts_with("Error in atexit.") {
            ignored = true;
            kinds.push(Kind::Noise);
            continue;
        } else {
            let kind = kind(line, inside && framed, framed, of_many);
            let kind = if ignored && (inside || framed) { Kind::Noise } else { kind };
            (inside, ignored) = (false, false);
            kind
        };
        (framed, warned) = (false, line.contains("Warning: "));
        kinds.push(kind);
    }
    kinds
}

/// What a line is that begins at the margin. `ends_traceback`: it is the first one behind a traceback's frames;
/// `framed`: the line before is indented; `of_many`: it names which of several processes has printed it.
fn kind(line: &str, ends_traceback: bool, framed: bool, of_many: bool) -> Kind {
    const ENDS: [&str; 5] =
        ["panic: ", "terminate called after throwing", "Fatal Python error: ", "Exception in thread \"", "Caused by: "];
    let name = exception_name(line);
    let is_end = ENDS.iter().any(|end| line.starts_with(end))
        || (line.starts_with("thread '") && line.contains(" panicked at "));
    if name.is_some_and(|name| ECHOES.iter().any(|echo| name.contains(echo))) {
        Kind::Echo
    } else if is_end || ends_traceback || (framed && name.is_some()) {
        Kind::Exception
    } else if name.is_some() {
        Kind::ExceptionAlone
    } else if is_progress_bar(line) {
        Kind::Noise
    } else if says_step(line) {
        // Others may go on for a while when one of many has failed.
        if of_many { Kind::Noise } else { Kind::Step }
    } else if is_of_launcher(line) || is_logged(line) || is_rule(line) {
        Kind::Noise
    } else if complains(line) {
        Kind::Complaint
    } else {
        Kind::Words
    }
}

/// What launchers raise whose worker has failed, and what a signal raises.
const ECHOES: [&str; 8] = [
    "ChildFailedError",
    "CalledProcessError",
    "RayTaskError",
    "ProcessExitedException",
    "ProcessRaisedException",
    "SignalException",
    "SystemExit",
    "KeyboardInterrupt",
];

/// The name of the exception that the line begins with: `ValueError: …`, `torch.cuda.OutOfMemoryError: …`, `KeyboardInterrupt`.
fn exception_name(line: &str) -> Option<&str> {
    let line = line.strip_prefix("Uncaught ").unwrap_or(line);
    let name = line.split_once(':').map_or(line, |(name, _)| name);
    // Ray names the exception that it passes on: `ray.exceptions.RayTaskError(ValueError)`.
    let word = name.split_once('(').map_or(name, |(name, _)| name);
    let last = word.rsplit('.').next().unwrap_or(word);
    let is_name = word.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'));
    let ends = ["Error", "Exception", "Interrupt", "Exit", "Failure", "Fault", "ExceptionGroup"];
    (is_name && last.starts_with(char::is_uppercase) && ends.iter().any(|end| last.ends_with(end))).then_some(name)
}

/// The line without what says which of several processes has printed it (`[rank0]: `, `[default1]:`, `(pid=12, ip=…) `,
/// `[1,0]<stderr>:`), and whether there was such a prefix.
fn unprefixed(line: &str) -> (&str, bool) {
    let process = line.strip_prefix('[').and_then(|rest| rest.split_once(']')).filter(|(who, _)| {
        let number = who.trim_start_matches(|c: char| c.is_ascii_lowercase());
        !number.is_empty() && number.chars().all(|c| c.is_ascii_digit() || c == ',')
    });
    let process = process.and_then(|(_, rest)| {
        let rest = rest.strip_prefix("<stderr>").or(rest.strip_prefix("<stdout>")).unwrap_or(rest);
        rest.strip_prefix(':')
    });
    let actor = line
        .strip_prefix('(')
        .and_then(|rest| rest.split_once(')'))
        .and_then(|(who, rest)| who.contains("pid=").then_some(rest));
    match process.or(actor) {
        Some(rest) => (rest.strip_prefix(' ').unwrap_or(rest), true),
        None => (line.strip_prefix("  | ").unwrap_or(line), false),
    }
}

fn is_progress_bar(line: &str) -> bool {
    line.contains("%|")
        || line.contains("it/s")
        || line.contains("s/it")
        || line.contains('━')
        || line.contains("/step ")
}

fn is_of_launcher(line: &str) -> bool {
    const LAUNCHERS: [&str; 7] = [
        "wandb:",
        "srun: error: ",
        "note: run with `RUST_BACKTRACE",
        "Set the environment variable HYDRA_FULL_ERROR",
        "For simplicity, JAX has removed its internal frames",
        "Exception in thread ",
        "During handling of the above exception",
    ];
    let is_elastic = line.contains("torch.distributed.elastic") || line.contains("torch/distributed/elastic");
    is_elastic || line.contains("Warning: ") || LAUNCHERS.iter().any(|start| line.starts_with(start))
}

/// Whether a logger has printed it, at a level that no failure has: `INFO:root:…`, `[2024-05-01 10:00:00] DEBUG …`,
/// `2024-05-01 10:00:00,123 - train - WARNING - …`, `I0501 10:00:00.123456 …`.
fn is_logged(line: &str) -> bool {
    has_level(line, ['I', 'W'], &["INFO", "DEBUG", "WARNING", "WARN"])
}

fn complains(line: &str) -> bool {
    let lower = line.to_lowercase();
    has_level(line, ['E', 'F'], &["ERROR", "FATAL", "CRITICAL"])
        || ["error: ", "fatal: ", "killed", "aborted", "segmentation fault"].iter().any(|w| lower.starts_with(w))
        || [": error: ", "out of memory", "core dumped"].iter().any(|words| lower.contains(words))
}

/// Whether one of these levels stands among the first words, or one of these letters begins a line of glog.
fn has_level(line: &str, letters: [char; 2], levels: &[&str]) -> bool {
    let is_glog = line.starts_with(letters) && line[1..].bytes().take_while(u8::is_ascii_digit).count() == 4;
    is_glog || words(line).take(12).any(|word| levels.contains(&word))
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty())
}

/// Whether the line says at which step the trainer is, at its beginning or as a logger does.
fn says_step(line: &str) -> bool {
    let mut words = words(line).peekable();
    let depth = if is_logged(line) { usize::MAX } else { 1 };
    for _ in 0..depth {
        let Some(word) = words.next() else { return false };
        let is_step = ["epoch", "step", "iter", "iteration"].iter().any(|step| word.eq_ignore_ascii_case(step));
        if is_step && words.peek().is_some_and(|next| next.starts_with(|c: char| c.is_ascii_digit())) {
            return true;
        }
    }
    false
}

/// Whether the line only divides others.
fn is_rule(line: &str) -> bool {
    line.chars().all(|c| !c.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log, and its failure line.
    fn expect(cases: &[(&str, &str)]) {
        for (log, line) in cases {
            assert_eq!(failure(log).as_deref(), Some(*line), "{log}");
        }
    }

    const TRACEBACK: &str = "\
epoch 2 loss=0.31
Traceback (most recent call last):
  File \"train.py\", line 10, in <module>
    main()
  File \"train.py\", line 7, in main
    raise ValueError(\"lr is negative\")
ValueError: lr is negative
";

    #[test]
    fn an_exception_comes_before_what_loggers_print_behind_it() {
        let behind = [
            "",
            "wandb: \nwandb: Run history:\nwandb: loss \u{2581}\nwandb: 🚀 View run at: https://wandb.ai/a/b/runs/c\nwandb: Synced 5 W&B file(s), 0 media file(s)\nwandb: Find logs at: ./wandb/run-1/logs\n",
            "2024-05-01 10:00:00,123 - train - INFO - shutting down\n[INFO] bye\nWARNING:root:slow\nI0501 10:00:00.123456 12 api.py:900] end\n",
            "srun: error: gpu-node-03: task 0: Exited with exit code 1\n",
            "Uploading the model: done\nrun 17 ended\n",
            "  0%|          | 0/800 [00:22<?, ?it/s]\n",
            "Epoch 0:   0%|          | 0/10 [00:00<?, ?it/s]\n",
            "Exception ignored in: <function Pool.__del__ at 0x7f>\nTraceback (most recent call last):\n  File \"pool.py\", line 268, in __del__\nTypeError: 'NoneType' object is not callable\n",
            "/usr/lib/python3.10/multiprocessing/resource_tracker.py:224: UserWarning: There appear to be 1 leaked semaphore objects\n  warnings.warn('resource_tracker')\n",
            "--------------------\nFor simplicity, JAX has removed its internal frames from the traceback of the following exception.\n",
        ];
        for behind in behind {
            expect(&[(&format!("{TRACEBACK}{behind}"), "ValueError: lr is negative")]);
        }
    }

    #[test]
    fn what_a_launcher_raises_comes_behind_what_its_worker_raised() {
        let elastic = "\
E0801 13:23:20.000000 32974 torch/distributed/elastic/multiprocessing/api.py:874] failed (exitcode: 1) local_rank: 0 (pid: 12)
Traceback (most recent call last):
  File \"/usr/bin/torchrun\", line 10, in <module>
    sys.exit(main())
  File \"/usr/lib/python3/site-packages/torch/distributed/launcher/api.py\", line 139, in __call__
    raise ChildFailedError(
torch.distributed.elastic.multiprocessing.errors.ChildFailedError: 
============================================================
train.py FAILED
------------------------------------------------------------
Failures:
  <NO_OTHER_FAILURES>
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2025-08-01_11:36:44
  rank      : 0 (local_rank: 0)
  exitcode  : 1 (pid: 12)
  error_file: <N/A>
============================================================
";
        let accelerate = "\
Traceback (most recent call last):
  File \"/usr/bin/accelerate\", line 8, in <module>
    sys.exit(main())
subprocess.CalledProcessError: Command '['python', 'train.py']' returned non-zero exit status 1.
";
        let ranks = "\
[rank1]: Traceback (most recent call last):
[rank1]:   File \"train.py\", line 3, in <module>
[rank1]:     x = torch.empty(1 << 40, device=\"cuda\")
[rank1]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.
[rank0]: epoch 3 loss=0.2
";
        let ray = "\
(train_fn pid=4074, ip=172.31.26.109) Traceback (most recent call last):
(train_fn pid=4074, ip=172.31.26.109)   File \"train.py\", line 5, in train_fn
(train_fn pid=4074, ip=172.31.26.109) KeyError: 'lr'
Traceback (most recent call last):
  File \"driver.py\", line 9, in <module>
ray.exceptions.RayTaskError(KeyError): ray::train_fn() (pid=4074, ip=172.31.26.109)
  File \"train.py\", line 5, in train_fn
KeyError: 'lr'
";
        expect(&[
            (&format!("{TRACEBACK}{elastic}"), "ValueError: lr is negative"),
            (&format!("{TRACEBACK}{accelerate}"), "ValueError: lr is negative"),
            (&format!("{ranks}{elastic}"), "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."),
            (ray, "KeyError: 'lr'"),
            // The worker has left no word.
            (elastic, "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: train.py FAILED"),
            ("epoch 3 loss=0.5\nKeyboardInterrupt\n", "KeyboardInterrupt"),
        ]);
    }

    #[test]
    fn exceptions_of_many_languages_are_known() {
        expect(&[
            ("Traceback (most recent call last):\n  File \"a.py\", line 1, in f\nqueue.Empty\nbye\n", "queue.Empty"),
            (
                "  File \"train.py\", line 3\n    print(\n         ^\nSyntaxError: '(' was never closed\n",
                "SyntaxError: '(' was never closed",
            ),
            (
                "RuntimeError: Error(s) in loading state_dict for Net:\n\tsize mismatch for fc.weight\n",
                "RuntimeError: Error(s) in loading state_dict for Net: size mismatch for fc.weight",
            ),
            (
                "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 37 bytes.\nBufferAssignment stats:\n             parameter allocation:  372.76MiB\nPeak buffers:\n",
                "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 37 bytes.",
            ),
            (
                "thread 'main' panicked at src/main.rs:4:5:\nlr is negative\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n",
                "thread 'main' panicked at src/main.rs:4:5: lr is negative",
            ),
            (
                "panic: runtime error: index out of range [5]\n\ngoroutine 1 [running]:\nmain.main()\n\t/a/main.go:9 +0x1d\nexit status 2\n",
                "panic: runtime error: index out of range [5]",
            ),
            (
                "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\nAborted (core dumped)\n",
                "terminate called after throwing an instance of 'std::bad_alloc' what():  std::bad_alloc",
            ),
            (
                "Exception in thread \"main\" java.lang.IllegalStateException: no lr\n\tat Train.main(Train.java:5)\n",
                "Exception in thread \"main\" java.lang.IllegalStateException: no lr",
            ),
            ("[1,0]<stderr>:RuntimeError: NCCL error\n[1,0]<stdout>:bye\n", "RuntimeError: NCCL error"),
        ]);
    }

    #[test]
    fn without_an_exception_it_is_the_last_complaint_or_the_last_words() {
        expect(&[
            ("epoch 3\nout of memory\n\n", "out of memory"),
            ("epoch 3\n  no data\n", "no data"),
            ("no data\ntrain.py:3: UserWarning: slow\n  warnings.warn('slow')\n", "no data"),
            (
                "usage: train.py [--lr LR]\ntrain.py: error: unrecognized arguments: --depth=3\n",
                "train.py: error: unrecognized arguments: --depth=3",
            ),
            (
                "2024-05-01 10:00:00,123 - train - ERROR - loss is NaN at batch 7\nbye\n",
                "2024-05-01 10:00:00,123 - train - ERROR - loss is NaN at batch 7",
            ),
            ("loading data\ncannot open data.csv\nwandb: Synced 5 W&B file(s)\n", "cannot open data.csv"),
            ("wandb: Synced 5 W&B file(s)\n", "wandb: Synced 5 W&B file(s)"),
            ("epoch 1 acc=0.5\nepoch 2 acc=0.6\n", "epoch 2 acc=0.6"),
            ("run.sh: line 3: python3.9: command not found\n", "run.sh: line 3: python3.9: command not found"),
        ]);
        assert_eq!(failure("\n \r\n\x1b[2J\n"), None);
    }

    #[test]
    fn an_exception_that_was_handled_is_not_what_went_wrong() {
        expect(&[
            (&format!("{TRACEBACK}epoch 3 loss=0.30\nout of memory\n"), "out of memory"),
            (&format!("{TRACEBACK}INFO:train:step 40 done\nno space left\n"), "no space left"),
            ("ImportError: no apex, going on without\nCUDA error: out of memory\n", "CUDA error: out of memory"),
        ]);
    }

    #[test]
    fn the_failure_line_is_cleaned_and_bounded() {
        let long = format!("\x1b[31mValueError\x1b[0m: {}", "é".repeat(1000));
        let line = failure(&long).unwrap_or_default();
        assert!(line.starts_with("ValueError: éé") && line.ends_with("é…"), "{line}");
        assert_eq!(line.chars().count(), QUOTED + 1);
        let line = failure("50%\r100%\r\x1b[31mout of memory\x1b[0m\x1b[2J");
        assert_eq!(with_line("exit code 1".to_owned(), line.as_deref()), "exit code 1: out of memory");
        assert_eq!(with_line("exit code 1".to_owned(), None), "exit code 1");
    }

    #[test]
    fn the_tail_of_a_log_is_its_last_lines_as_a_terminal_shows_them() {
        assert_eq!(tail("\n\n"), None);
        assert_eq!(tail("a\n 10%\r 50%\r100%\r\nb\n").as_deref(), Some("a\n100%\nb"));
        let long: String = (0..30).map(|i| format!("line {i}\n")).collect();
        let kept = tail(&long).unwrap_or_default();
        assert!(kept.starts_with("line 10\n") && kept.ends_with("line 29"), "{kept}");
        assert_eq!(tail(&"é".repeat(5000)).map(|kept| kept.chars().count()), Some(TAIL_CHARACTERS));
    }

    #[test]
    fn the_words_up_to_the_failure_leave_out_what_stands_behind_it() {
        let log = format!("{TRACEBACK}wandb: Synced 5 W&B file(s)\n");
        let words = [
            "File \"train.py\", line 7, in main",
            "raise ValueError(\"lr is negative\")",
            "ValueError: lr is negative",
        ];
        assert_eq!(up_to_failure(&log, 3), words);
        assert_eq!(up_to_failure("a\nb\n", 3), ["a", "b"]);
        assert_eq!(up_to_failure("", 3), [""; 0]);
    }
}
