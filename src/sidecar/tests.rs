use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser as _;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::*;
use crate::metrics::{Dropped, Noted, ObjectiveSummary, Observation, SidecarLine, Summary};

/// What a sidecar has printed so far.
#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Printed {
    fn lines(&self) -> Vec<SidecarLine> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| SidecarLine::parse(line).unwrap_or_else(|| panic!("{line}"))).collect()
    }

    /// (generation, offset, step, accuracy) of every report.
    fn reports(&self) -> Vec<(u32, u64, u64, f64)> {
        let report = |line| match line {
            SidecarLine::Report { generation, offset, step, metrics, .. } => {
                Some((generation, offset, step, metrics["accuracy"]))
            }
            _ => None,
        };
        self.lines().into_iter().filter_map(report).collect()
    }

    /// The problem of every heartbeat.
    fn heartbeats(&self) -> Vec<Option<String>> {
        let heartbeat = |line| match line {
            SidecarLine::Heartbeat { problem, .. } => Some(problem),
            _ => None,
        };
        self.lines().into_iter().filter_map(heartbeat).collect()
    }
}

/// The event file of a trainer that reported an accuracy at five steps, as PyTorch's writer does, among other things; the first
/// 300 bytes hold the first of them.
const EVENTS: &[u8] = include_bytes!("../../tests/data/events/pytorch/events.out.tfevents.1700000000.host");

/// A running sidecar with the folder that it shares with a trainer.
struct Running {
    dir: tempfile::TempDir,
    printed: Printed,
    task: tokio::task::JoinHandle<Result<(), Error>>,
    shutdown: oneshot::Sender<()>,
}

fn args(dir: &Path) -> Args {
    Args {
        place: PlaceArgs { file: Some(dir.join("metrics")), ..PlaceArgs::default() },
        objectives: vec!["accuracy=Maximize".parse().unwrap(), "loss=Minimize".parse().unwrap()],
        grammar: Grammar::default(),
        pod_uid: "u-1".into(),
        termination_message: dir.join("message"),
        state: None,
        heartbeat: 1,
    }
}

fn append(path: &Path, text: &str) {
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// Waits for a state, generously.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < limit, "{what} did not come");
        sleep(Duration::from_millis(5)).await;
    }
}

impl Running {
    /// Starts a sidecar after `prepare` has been at its folder.
    fn start(prepare: impl FnOnce(&Path)) -> Running {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let args = args(dir.path());
        Running::with(dir, args)
    }

    fn with(dir: tempfile::TempDir, args: Args) -> Running {
        let (shutdown, ended) = oneshot::channel();
        let printed = Printed::default();
        let task = tokio::spawn(run_until(args, printed.clone(), async {
            let _ = ended.await;
        }));
        Running { dir, printed, task, shutdown }
    }

    fn append(&self, text: &str) {
        append(&self.dir.path().join("metrics"), text);
    }

    fn summary(&self) -> Option<Summary> {
        Summary::parse(&fs::read_to_string(self.dir.path().join("message")).ok()?)
    }

    /// Shuts the sidecar down: everything it printed, and its termination message.
    async fn end(self) -> (Printed, Option<Summary>) {
        self.shutdown.send(()).unwrap();
        self.task.await.unwrap().unwrap();
        let summary = fs::read_to_string(self.dir.path().join("message")).ok();
        (self.printed, summary.map(|message| Summary::parse(&message).unwrap()))
    }
}

#[tokio::test]
async fn reports_are_printed_as_they_come_and_the_end_comes_last() {
    let sidecar = Running::start(|dir| fs::write(dir.join("message"), "").unwrap());
    until("a heartbeat", || !sidecar.printed.heartbeats().is_empty()).await;
    sidecar.append("{\"step\":1,\"accuracy\":0.5}\n");
    until("the first report", || sidecar.printed.reports().len() == 1).await;
    sidecar.append("noise\nstep=2 accuracy=0.7 loss=0.3\naccuracy=inf\nstep=4 accura");
    until("the third report", || sidecar.printed.reports().len() == 3).await;
    sidecar.append("cy=0.6");
    let (printed, summary) = sidecar.end().await;

    assert_eq!(printed.reports(), [(1, 26, 1, 0.5), (1, 61, 2, 0.7), (1, 74, 3, f64::INFINITY), (1, 93, 4, 0.6)]);
    let dropped = Dropped { non_finite: 1, example: Some("accuracy=inf".into()), ..Dropped::default() };
    let noted = Noted { dropped: dropped.clone(), ..Noted::default() };
    assert_eq!(printed.lines().last(), Some(&SidecarLine::End { pod: "u-1".into(), noted, problem: None }));
    let (second, third) = (Observation { step: 2, value: 0.7 }, Observation { step: 4, value: 0.6 });
    let loss = Observation { step: 2, value: 0.3 };
    assert_eq!(
        summary,
        Some(Summary {
            objectives: vec![
                ObjectiveSummary { metric: "accuracy".into(), last: third, best: second },
                ObjectiveSummary { metric: "loss".into(), last: loss, best: loss },
            ],
            count: 4,
            pod: "u-1".into(),
            dropped,
            problem: None,
        })
    );
}

#[tokio::test]
async fn all_that_was_written_before_the_end_is_printed() {
    let lines = 20_000;
    let sidecar = Running::start(|dir| append(&dir.join("metrics"), &"accuracy=0.5\n".repeat(lines)));
    let (printed, _) = sidecar.end().await;
    let reports = printed.reports();
    assert_eq!(reports.len(), lines);
    assert_eq!(reports.last(), Some(&(1, 13 * lines as u64, lines as u64, 0.5)));
    assert!(matches!(printed.lines().last(), Some(SidecarLine::End { problem: None, .. })));
}

#[tokio::test]
async fn heartbeats_come_whether_or_not_there_are_reports() {
    let sidecar = Running::start(|_| ());
    until("three heartbeats", || sidecar.printed.heartbeats().len() == 3).await;
    let (printed, _) = sidecar.end().await;
    assert_eq!(printed.reports(), []);
}

#[tokio::test]
async fn the_termination_message_is_rewritten_in_place_while_the_trainer_runs() {
    let sidecar = Running::start(|dir| fs::write(dir.join("message"), "x".repeat(2000)).unwrap());
    let inode = fs::metadata(sidecar.dir.path().join("message")).unwrap().ino();
    for count in 1..=2 {
        sidecar.append("accuracy=0.5\n");
        until("the message", || sidecar.summary().is_some_and(|summary| summary.count == count)).await;
    }
    assert_eq!(fs::metadata(sidecar.dir.path().join("message")).unwrap().ino(), inode);
    assert_eq!(sidecar.end().await.1.unwrap().count, 2);
}

#[tokio::test]
async fn without_a_file_for_it_no_termination_message_is_written() {
    let sidecar = Running::start(|_| ());
    sidecar.append("accuracy=0.5\n");
    until("the report", || sidecar.printed.reports().len() == 1).await;
    let (printed, summary) = sidecar.end().await;
    assert_eq!(summary, None);
    assert!(matches!(printed.lines().last(), Some(SidecarLine::End { problem: None, .. })));
}

#[tokio::test]
async fn where_nothing_was_read_of_the_objective_the_last_line_says_what_stood_there_instead() {
    for other in ["", "loss=0.5\n"] {
        let sidecar = Running::start(|_| ());
        sidecar.append(&format!("{other}epoch 1\naccuracy 0.5\naccuracy 0.6\n"));
        let (printed, _) = sidecar.end().await;
        let why = "not read: \"accuracy 0.5\": neither = nor : stands between accuracy and the number";
        assert!(
            matches!(printed.lines().last(), Some(SidecarLine::End { problem: Some(problem), .. }) if problem == why),
            "{:?}",
            printed.lines().last()
        );
    }
}

#[tokio::test]
async fn a_termination_message_that_cannot_be_written_is_a_problem_and_stops_nothing() {
    let sidecar = Running::start(|dir| fs::create_dir(dir.join("message")).unwrap());
    let starts = |problem: &Option<String>| {
        problem.as_ref().is_some_and(|problem| problem.starts_with("cannot write the termination message: "))
    };
    until("the problem", || sidecar.printed.heartbeats().iter().any(starts)).await;
    sidecar.append("accuracy=0.5\n");
    until("the report", || sidecar.printed.reports().len() == 1).await;
    sidecar.shutdown.send(()).unwrap();
    sidecar.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_metrics_file_that_cannot_be_read_is_a_problem_until_it_can() {
    let sidecar = Running::start(|dir| {
        fs::write(dir.join("message"), "").unwrap();
        fs::create_dir(dir.join("metrics")).unwrap();
    });
    let problem = Some("cannot read metrics file: it is a directory".to_owned());
    until("the problem", || sidecar.printed.heartbeats().contains(&problem)).await;
    until("the problem in the message", || sidecar.summary().is_some_and(|summary| summary.problem == problem)).await;
    fs::remove_dir(sidecar.dir.path().join("metrics")).unwrap();
    sidecar.append("accuracy=0.5\n");
    until("the report", || sidecar.printed.reports().len() == 1).await;
    let (printed, summary) = sidecar.end().await;
    assert!(matches!(printed.lines().last(), Some(SidecarLine::End { problem: None, .. })));
    assert_eq!(summary.unwrap().problem, None);
}

#[tokio::test]
async fn a_file_that_is_written_anew_is_the_next_generation() {
    let sidecar = Running::start(|_| ());
    sidecar.append("step=1 accuracy=0.5\n");
    until("the first report", || sidecar.printed.reports().len() == 1).await;
    fs::write(sidecar.dir.path().join("metrics"), "accuracy=0.6\n").unwrap();
    let (printed, _) = sidecar.end().await;
    assert_eq!(printed.reports(), [(1, 20, 1, 0.5), (2, 13, 2, 0.6)]);
}

/// Arguments of a sidecar that follows event files.
fn events_args(dir: &Path) -> Args {
    Args {
        place: PlaceArgs { tensor_board: Some(dir.join("logs")), ..PlaceArgs::default() },
        objectives: vec!["val/accuracy=Maximize".parse().unwrap()],
        ..args(dir)
    }
}

/// (generation, offset, step) of every report, and its value.
fn positions(printed: &Printed) -> Vec<((u32, u64, u64), f64)> {
    let report = |line| match line {
        SidecarLine::Report { generation, offset, step, metrics, .. } => {
            Some(((generation, offset, step), metrics.into_values().next().unwrap()))
        }
        _ => None,
    };
    printed.lines().into_iter().filter_map(report).collect()
}

#[tokio::test]
async fn event_files_are_followed_as_they_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let args = events_args(dir.path());
    let (logs, file) = (dir.path().join("logs/run"), dir.path().join("logs/run/events.out.tfevents.1700000000.host"));
    let sidecar = Running::with(dir, args);
    until("a heartbeat", || !sidecar.printed.heartbeats().is_empty()).await;
    fs::create_dir_all(&logs).unwrap();
    let mut writer = OpenOptions::new().create(true).append(true).open(&file).unwrap();
    let half = 300;
    for piece in EVENTS[..half].chunks(100) {
        writer.write_all(piece).unwrap();
        sleep(Duration::from_millis(1)).await;
    }
    until("the first report", || !positions(&sidecar.printed).is_empty()).await;
    writer.write_all(&EVENTS[half..]).unwrap();
    let (printed, _) = sidecar.end().await;
    let read: Vec<(u64, f64)> = positions(&printed).iter().map(|((.., step), value)| (*step, *value)).collect();
    assert_eq!(read, [(1, 0.4), (2, 0.65), (3, 0.73333335), (4, 0.775), (5, 0.8)]);
    let Some(SidecarLine::End { noted, problem: None, .. }) = printed.lines().pop() else { panic!() };
    assert!(noted.dropped.is_zero(), "{noted:?}");
}

#[tokio::test]
async fn a_sidecar_that_is_started_again_gives_each_report_of_event_files_the_same_position() {
    let dir = tempfile::tempdir().unwrap();
    let args = events_args(dir.path());
    let logs = dir.path().join("logs");
    fs::create_dir_all(&logs).unwrap();
    fs::write(logs.join("events.out.tfevents.1700000000.host"), &EVENTS[..300]).unwrap();
    let first = Running::with(dir, args.clone());
    first.shutdown.send(()).unwrap();
    first.task.await.unwrap().unwrap();
    let before = positions(&first.printed);
    assert_eq!(before.len(), 1);
    fs::write(logs.join("events.out.tfevents.1700000000.host"), EVENTS).unwrap();
    let second = Running::with(first.dir, args);
    let after = positions(&second.end().await.0);
    assert_eq!(after.len(), 5);
    assert!(after.starts_with(&before) && after.is_sorted_by(|a, b| a.0 < b.0), "{before:?} {after:?}");
}

#[tokio::test]
async fn where_event_files_hold_no_such_tag_the_last_line_says_which_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let args = Args { objectives: vec!["accuracy=Maximize".parse().unwrap()], ..events_args(dir.path()) };
    fs::create_dir_all(dir.path().join("logs")).unwrap();
    fs::write(dir.path().join("logs/events.out.tfevents.1700000000.host"), EVENTS).unwrap();
    let (printed, _) = Running::with(dir, args).end().await;
    let said = "there are the tags val/accuracy, loss/train; did you mean val/accuracy?";
    assert!(
        matches!(printed.lines().last(), Some(SidecarLine::End { problem: Some(problem), .. }) if problem == said),
        "{:?}",
        printed.lines().last()
    );
}

/// A server that answers everything with the page of the moment, until it is dropped.
struct Server {
    port: u16,
    page: Arc<Mutex<String>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(page: &str) -> Server {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let page = Arc::new(Mutex::new(page.to_owned()));
        let served = page.clone();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let answer = format!("HTTP/1.0 200 OK\r\n\r\n{}", served.lock().unwrap());
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Server { port, page, task }
    }

    fn show(&self, page: &str) {
        page.clone_into(&mut self.page.lock().unwrap());
    }

    fn args(&self, dir: &Path) -> Args {
        let page = Page { port: self.port, path: "/metrics".to_owned() };
        Args {
            place: PlaceArgs { prometheus: Some(page), ..PlaceArgs::default() },
            objectives: vec!["accuracy=Maximize".parse().unwrap()],
            state: Some(dir.join("reached.json")),
            ..args(dir)
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn a_page_is_read_as_it_changes_and_what_is_wrong_with_it_is_told() {
    let server = Server::start("epoch 1\naccuracy 0.5\n").await;
    let dir = tempfile::tempdir().unwrap();
    let args = server.args(dir.path());
    let sidecar = Running::with(dir, args);
    until("the first report", || sidecar.printed.reports().len() == 1).await;
    server.show("<html>");
    let is_told =
        |problem: &Option<String>| problem.as_deref() == Some("it is no page of Prometheus metrics: \"<html>\"");
    until("the problem", || sidecar.printed.heartbeats().iter().any(is_told)).await;
    let known = sidecar.printed.heartbeats().len();
    until("two more heartbeats", || sidecar.printed.heartbeats().len() >= known + 2).await;
    let told = sidecar.printed.heartbeats();
    assert!(told[known..].iter().all(is_told), "it stands until another page is there: {told:?}");
    server.show("epoch 2\naccuracy 0.7\n");
    until("the second report", || sidecar.printed.reports().len() == 2).await;
    drop(server);
    let (printed, _) = sidecar.end().await;
    let read: Vec<(u64, f64)> = positions(&printed).iter().map(|((.., step), value)| (*step, *value)).collect();
    assert_eq!(read, [(1, 0.5), (2, 0.7)]);
    assert!(matches!(printed.lines().last(), Some(SidecarLine::End { problem: None, .. })));
}

#[tokio::test]
async fn a_sidecar_that_is_started_again_goes_on_counting_and_repeats_no_page() {
    let server = Server::start("accuracy 0.5\n").await;
    let dir = tempfile::tempdir().unwrap();
    let args = server.args(dir.path());
    let first = Running::with(dir, args.clone());
    until("the first report", || first.printed.reports().len() == 1).await;
    server.show("accuracy 0.6\n");
    until("the second report", || first.printed.reports().len() == 2).await;
    first.shutdown.send(()).unwrap();
    first.task.await.unwrap().unwrap();
    let second = Running::with(first.dir, args);
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(positions(&second.printed), [], "the page is the one that was reported");
    server.show("accuracy 0.7\n");
    until("the third report", || second.printed.reports().len() == 1).await;
    let all = [positions(&first.printed), positions(&second.end().await.0)].concat();
    assert_eq!(
        all.iter().map(|((.., step), value)| (*step, *value)).collect::<Vec<_>>(),
        [(1, 0.5), (2, 0.6), (3, 0.7)]
    );
    assert!(all.is_sorted_by(|a, b| a.0 < b.0), "{all:?}");
}

#[tokio::test]
async fn a_page_that_was_never_there_is_no_problem_until_the_end() {
    let server = Server::start("").await;
    let dir = tempfile::tempdir().unwrap();
    let args = server.args(dir.path());
    drop(server);
    let sidecar = Running::with(dir, args);
    until("two heartbeats", || sidecar.printed.heartbeats().len() == 2).await;
    let (printed, _) = sidecar.end().await;
    assert_eq!(printed.heartbeats()[..2], [None, None]);
    let last = printed.lines().pop();
    assert!(
        matches!(&last, Some(SidecarLine::End { problem: Some(problem), .. }) if problem == "nobody listens there"),
        "{last:?}"
    );
}

/// An output that fails.
struct Fails(io::ErrorKind);

impl Write for Fails {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_closed_output_ends_the_sidecar_quietly_and_a_broken_one_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let never = std::future::pending::<()>;
    assert!(run_until(args(dir.path()), Fails(io::ErrorKind::BrokenPipe), never()).await.is_ok());
    let error = run_until(args(dir.path()), Fails(io::ErrorKind::StorageFull), never()).await.unwrap_err();
    assert!(matches!(error, Error::Output(_)), "{error}");
}

#[derive(clap::Parser)]
struct Command {
    #[command(flatten)]
    args: Args,
}

#[test]
fn the_arguments_are_those_of_the_injected_container() {
    let line = "sidecar --file=/m --objective=val/acc@1=Maximize --objective=loss=Minimize --pod-uid=u";
    let args = Command::try_parse_from(line.split(' ')).map(|command| command.args).unwrap();
    let objective = |metric: &str, direction| Objective { metric: metric.into(), direction };
    let objectives = [objective("val/acc@1", Direction::Maximize), objective("loss", Direction::Minimize)];
    assert_eq!(args.objectives, objectives);
    assert_eq!((args.heartbeat, args.termination_message), (20, PathBuf::from("/dev/termination-log")));
}

#[test]
fn metrics_are_in_one_place() {
    let parse = |place: &str| {
        let line = format!("sidecar {place} --objective=loss=Minimize --pod-uid=u");
        Command::try_parse_from(line.split_whitespace()).map(|command| command.args.place())
    };
    assert_eq!(parse("--file=/m").unwrap(), Place::File("/m".into()));
    assert_eq!(parse("--tensor-board=/logs").unwrap(), Place::Events { folder: "/logs".into(), fixed: None });
    let page = |path: &str, state| Place::Page { port: 8000, path: path.to_owned(), state };
    assert_eq!(parse("--prometheus=8000").unwrap(), page("/metrics", None));
    assert_eq!(parse("--prometheus=8000/a/b?c --state=/s").unwrap(), page("/a/b?c", Some("/s".into())));
    for wrong in
        ["", "--file=/m --tensor-board=/logs", "--prometheus=/metrics", "--prometheus=0", "--prometheus=70000/m"]
    {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn an_objective_that_is_not_a_metric_and_a_direction_is_refused() {
    for text in ["", "accuracy", "accuracy=", "=Maximize", "accuracy=maximize", "accuracy=Maximize "] {
        assert!(text.parse::<Objective>().is_err(), "{text}");
    }
}
