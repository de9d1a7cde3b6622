// load is what scale.sh needs beside the cluster's own processes:
//
//	load ports N       prints N free ports
//	load bare …        the bare loop: keeps so many Jobs in flight, and makes the next as soon as one is done
//	load trials …      the measurement of `make scale`; starts both sides, and is observer, kubelet and proxy meanwhile
//	load reports …     that of `make scale-reports`
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// settings are the flags of all commands.
type settings struct {
	folder, operator, kubelet, life, sampler, namespace, kubeconfig, pruners string
	trials, parallelism, history, ttl, seconds                               int
	every                                                                    time.Duration
	counted                                                                  bool
	// The control plane's processes.
	processes map[string]int
}

func parse(arguments []string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	flags.StringVar(&s.folder, "folder", "", "where the kubeconfigs are")
	flags.StringVar(&s.operator, "operator", "", "the program")
	flags.StringVar(&s.kubelet, "kubelet", "", "where logs are served")
	flags.StringVar(&s.life, "life", "2s", "how long a pod runs")
	flags.StringVar(&s.sampler, "sampler", "random", "the Study's sampler")
	flags.StringVar(&s.pruners, "pruners", "", "the Studies' pruners")
	flags.StringVar(&s.namespace, "namespace", "", "of the bare loop")
	flags.StringVar(&s.kubeconfig, "kubeconfig", "", "of the bare loop")
	flags.IntVar(&s.trials, "trials", 0, "how many")
	flags.IntVar(&s.parallelism, "parallelism", 0, "how many at once")
	flags.IntVar(&s.history, "history", -1, "how many finished Jobs are kept; -1: all")
	flags.IntVar(&s.ttl, "ttl", 0, "seconds after which a finished Job goes")
	flags.IntVar(&s.seconds, "seconds", 60, "for how long reports are watched")
	every := flags.String("every", "", "how often a trainer reports")
	count := flags.String("count", "yes", "whether calls are counted")
	_ = flags.Parse(arguments)
	s.counted = *count != "no"
	life, err := time.ParseDuration(s.life)
	if err != nil {
		return s, err
	}
	if s.every = min(life/4, time.Hour); *every != "" {
		if s.every, err = time.ParseDuration(*every); err != nil {
			return s, err
		}
	}
	if s.trials < tenths || s.parallelism < 1 || s.every <= 0 {
		return s, fmt.Errorf("TRIALS is %d, at least %d; PARALLELISM %d, at least 1; EVERY %s", s.trials, tenths, s.parallelism, s.every)
	}
	s.processes = map[string]int{}
	for _, argument := range flags.Args() {
		name, pid, _ := strings.Cut(argument, "=")
		s.processes[name], _ = strconv.Atoi(pid)
	}
	return s, nil
}

func main() {
	// A child dies with the thread that started it: this one.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := command(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, arguments []string) error {
	commands := map[string]func(context.Context, settings) error{"bare": bare, "trials": trials, "reports": reports}
	switch {
	case len(arguments) == 2 && arguments[0] == "ports":
		return ports(arguments[1])
	case len(arguments) > 1 && commands[arguments[0]] != nil:
		s, err := parse(arguments[1:])
		if err != nil {
			return err
		}
		return commands[arguments[0]](ctx, s)
	}
	return errors.New("ports, bare, trials or reports is needed; see scale.sh")
}

func ports(count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	found, err := freePorts(n)
	if err == nil {
		_, err = fmt.Println(strings.Trim(fmt.Sprint(found), "[]"))
	}
	return err
}

func freePorts(n int) (ports []int, err error) {
	for range n {
		// All are held until the last is found, so that they differ.
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// until waits for what is asked every 100 ms.
func until(ctx context.Context, what string, limit time.Duration, is func() bool) error {
	deadline := time.After(limit)
	for !is() {
		select {
		case <-time.After(100 * time.Millisecond):
		case <-deadline:
			return fmt.Errorf("no %s after %s", what, limit)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
