package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// parameters of a trial, all of them doubles.
	parameters = 6
	nodes      = 100
	study      = "scale"
	studies    = "/apis/sweep-operator.dev/v1alpha1/namespaces/%s/studies"
)

// bench is the cluster as it is measured.
type bench struct {
	settings
	client   *kubernetes.Clientset
	observer *observer
	kubelet  *kubelet
	counter  *counter
	// What both sides use, through the counter or not.
	user string
}

// ready has the nodes, and starts what watches, serves logs and counts.
func ready(ctx context.Context, s settings) (*bench, error) {
	client, err := connect(filepath.Join(s.folder, "admin.kubeconfig"))
	if err != nil {
		return nil, err
	}
	b := &bench{settings: s, client: client, counter: &counter{kinds: map[string]count{}}}
	b.observer = &observer{pods: map[string]*pod{}, sides: map[string]*side{}}
	b.kubelet = &kubelet{observer: b.observer, every: s.every, began: time.Now()}
	b.user = filepath.Join(s.folder, "user.kubeconfig")
	if err := b.kubelet.start(ctx, s.kubelet); err != nil {
		return nil, err
	}
	if s.counted {
		if err := b.count(ctx); err != nil {
			return nil, err
		}
	}
	if err := b.makeNodes(ctx); err != nil {
		return nil, err
	}
	return b, b.observer.start(ctx, client)
}

// count has both sides go through the counter.
func (b *bench) count(ctx context.Context) error {
	direct, err := clientcmd.BuildConfigFromFlags("", b.user)
	if err != nil {
		return err
	}
	address, err := b.counter.start(ctx, direct.Host)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(b.user)
	if err != nil {
		return err
	}
	b.user = filepath.Join(b.folder, "counted.kubeconfig")
	return os.WriteFile(b.user, bytes.ReplaceAll(text, []byte(direct.Host), []byte("https://"+address)), 0o600)
}

func (b *bench) makeNodes(ctx context.Context) error {
	capacity := corev1.ResourceList{}
	for name, value := range map[corev1.ResourceName]string{"cpu": "128", "memory": "2Ti", "pods": "110", "nvidia.com/gpu": "8"} {
		capacity[name] = resource.MustParse(value)
	}
	for i := range nodes {
		name := fmt.Sprintf("gpu-%03d", i)
		node := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}},
			Status:     corev1.NodeStatus{Capacity: capacity, Allocatable: capacity},
		}
		if _, err := b.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return until(ctx, "nodes that take pods", time.Minute, func() bool {
		found, err := b.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return false
		}
		for _, node := range found.Items {
			if len(node.Spec.Taints) > 0 || node.Status.Phase != corev1.NodeRunning {
				return false
			}
		}
		return true
	})
}

// child is a process of a side.
type child struct {
	*exec.Cmd
	ended chan struct{}
}

func (b *bench) run(name string, command ...string) (*child, error) {
	log, err := os.OpenFile(filepath.Join(b.folder, "logs", name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c := &child{exec.Command(command[0], command[1:]...), make(chan struct{})}
	c.Env = append(os.Environ(), "KUBECONFIG="+b.user)
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = c.Wait()
		close(c.ended)
	}()
	return c, nil
}

func (c *child) stop() {
	_ = c.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.ended:
	case <-time.After(5 * time.Second):
		_ = c.Process.Kill()
		<-c.ended
	}
}

// problem is that it has ended by itself.
func (c *child) problem() error {
	select {
	case <-c.ended:
		return fmt.Errorf("it has ended: %s", c.ProcessState)
	default:
		return nil
	}
}

// startBare starts the loop, and startOperator the operator with one Study once it is ready.
func (b *bench) startBare(namespace string) (*child, error) {
	itself, err := os.Executable()
	if err != nil {
		return nil, err
	}
	number := func(n int) string { return fmt.Sprint(n) }
	return b.run(namespace, itself, "bare", "-kubeconfig", b.user, "-namespace", namespace, "-trials", number(b.trials),
		"-parallelism", number(b.parallelism), "-life", b.life, "-ttl", number(b.ttl), "-history", number(b.history))
}

func (b *bench) startOperator(ctx context.Context, namespace string) (*child, error) {
	free, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	listen := fmt.Sprintf("127.0.0.1:%d", free[0])
	c, err := b.run(namespace, b.operator, "operator", "--leader-elect=false", "--listen", listen, "--sidecar-image", "example/sweep:1")
	if err != nil {
		return nil, err
	}
	ready := func() bool {
		return exec.CommandContext(ctx, b.operator, "probe", "http://"+listen+"/readyz").Run() == nil
	}
	if err := until(ctx, "operator that is ready", time.Minute, ready); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// apply makes the Study.
func (b *bench) apply(ctx context.Context, namespace string, pruner map[string]any) error {
	doubles := []map[string]any{}
	for i := range parameters {
		doubles = append(doubles, map[string]any{"name": fmt.Sprintf("x%d", i), "double": map[string]int{"min": 0, "max": 1}})
	}
	spec := map[string]any{
		"objectives": []map[string]string{{"metric": "loss", "direction": "Minimize"}},
		"parameters": doubles, "sampler": map[string]any{b.sampler: map[string]any{}}, "seed": 1,
		"maxTrials": b.trials, "parallelism": b.parallelism, "maxFailedTrials": b.trials,
		"metrics": map[string]any{"stdout": map[string]any{}}, "gpu": map[string]int{"count": 1},
		"jobTemplate": map[string]any{"spec": map[string]any{"ttlSecondsAfterFinished": b.ttl, "template": template(b.life)}},
	}
	if b.history >= 0 {
		spec["finishedJobsHistoryLimit"] = b.history
	}
	if pruner != nil {
		spec["pruner"] = pruner
	}
	text, err := json.Marshal(map[string]any{
		"apiVersion": "sweep-operator.dev/v1alpha1", "kind": "Study", "metadata": map[string]string{"name": study}, "spec": spec,
	})
	if err != nil {
		return err
	}
	return b.raw().Post().AbsPath(fmt.Sprintf(studies, namespace)).SetHeader("Content-Type", "application/json").Body(text).Do(ctx).Error()
}

func (b *bench) raw() rest.Interface { return b.client.Discovery().RESTClient() }

// complete is whether the Study has come to its end, and how many Trials succeeded.
func (b *bench) complete(ctx context.Context, namespace string) (bool, int) {
	var found struct {
		Status struct {
			Trials     struct{ Succeeded int }
			Conditions []metav1.Condition
		}
	}
	text, err := b.raw().Get().AbsPath(fmt.Sprintf(studies, namespace)+"/"+study).SetHeader("Accept", "application/json").DoRaw(ctx)
	if err != nil || json.Unmarshal(text, &found) != nil {
		return false, 0
	}
	for _, condition := range found.Status.Conditions {
		if condition.Status == metav1.ConditionTrue && (condition.Type == "Complete" || condition.Type == "Failed") {
			return true, found.Status.Trials.Succeeded
		}
	}
	return false, found.Status.Trials.Succeeded
}

func (b *bench) makeNamespace(ctx context.Context, name string) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_, err := b.client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	return err
}

// clear removes a namespace with all in it, so that the next side finds the cluster as empty.
func (b *bench) clear(ctx context.Context, name string) error {
	if err := b.client.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	return until(ctx, "end of namespace "+name, 15*time.Minute, func() bool {
		_, err := b.client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		return err != nil
	})
}

// left is how many objects of a kind there are, by a list of one of them.
func (b *bench) left(ctx context.Context, path string) int {
	var found metav1.PartialObjectMetadataList
	text, err := b.raw().Get().AbsPath(path).Param("limit", "1").SetHeader("Accept", "application/json").DoRaw(ctx)
	if err != nil || json.Unmarshal(text, &found) != nil {
		return -1
	}
	n := len(found.Items)
	if found.RemainingItemCount != nil {
		n += int(*found.RemainingItemCount)
	}
	return n
}

// every calls what it is given at an interval, until it is stopped.
func every(interval time.Duration, what func()) (stop func()) {
	end := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for ticker := time.NewTicker(interval); ; {
			select {
			case <-ticker.C:
				what()
			case <-end:
				ticker.Stop()
				return
			}
		}
	})
	return func() { close(end); running.Wait() }
}

// processesWith are the control plane's and one more.
func (b *bench) processesWith(name string, pid int) map[string]int {
	all := maps.Clone(b.processes)
	all[name] = pid
	all["load"] = os.Getpid()
	return all
}
