package main

import (
	"context"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// connect makes a client that is not held back; protobuf, as every controller of Kubernetes speaks.
func connect(kubeconfig string) (*kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config = rest.CopyConfig(config)
	config.QPS = -1
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	return kubernetes.NewForConfig(config)
}

// follow hands on what happens from a resource version on. The API server ends a watch now and then, and when it has no time
// for the watcher: then it goes on from the last event.
func follow(ctx context.Context, from string, open func(context.Context, metav1.ListOptions) (watch.Interface, error), see func(watch.Event)) error {
	for ctx.Err() == nil {
		watched, err := open(ctx, metav1.ListOptions{ResourceVersion: from, AllowWatchBookmarks: true})
		if err != nil {
			return err
		}
		for event := range watched.ResultChan() {
			if event.Type == watch.Error {
				return apierrors.FromObject(event.Object)
			}
			object, err := meta.Accessor(event.Object)
			if err != nil {
				return err
			}
			from = object.GetResourceVersion()
			if event.Type != watch.Bookmark {
				see(event)
			}
		}
	}
	return ctx.Err()
}

// template is the pod of both sides, so that its trainer is the same.
func template(life string) corev1.PodTemplateSpec {
	grace := int64(1)
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"scale/life": life}},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: &grace,
			Containers: []corev1.Container{{
				Name: "trainer", Image: "example/trainer:1", Command: []string{"python", "train.py"}, Args: []string{"--x=$(x0)"},
			}},
		},
	}
}

// bareJob is a trial as a script would start it: the parameters as environment variables, and a GPU.
func bareJob(name string, s settings) *batchv1.Job {
	limit, ttl := int32(0), int32(s.ttl)
	pod := template(s.life)
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	trainer := &pod.Spec.Containers[0]
	for i := range parameters {
		trainer.Env = append(trainer.Env, corev1.EnvVar{Name: fmt.Sprintf("x%d", i), Value: "0.123456789012"})
	}
	trainer.Resources.Limits = corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("1")}
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.namespace},
		Spec:       batchv1.JobSpec{BackoffLimit: &limit, TTLSecondsAfterFinished: &ttl, Template: pod},
	}
}

// bare keeps as many Jobs unfinished as it may until all are finished, and of those the newest.
func bare(ctx context.Context, s settings) error {
	client, err := connect(s.kubeconfig)
	if err != nil {
		return err
	}
	jobs := client.BatchV1().Jobs(s.namespace)
	none, err := jobs.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	places, errors, events := make(chan struct{}, 64), make(chan error, 64), make(chan *batchv1.Job, 1024)
	go func() {
		errors <- follow(ctx, none.ResourceVersion, jobs.Watch, func(event watch.Event) { events <- event.Object.(*batchv1.Job) })
	}()
	call := func(what func() error) {
		places <- struct{}{}
		go func() {
			if err := what(); err != nil {
				errors <- err
			}
			<-places
		}()
	}
	created := 0
	create := func() {
		if created == s.trials {
			return
		}
		job := bareJob(fmt.Sprintf("bare-%04d", created), s)
		created++
		call(func() error {
			_, err := jobs.Create(ctx, job, metav1.CreateOptions{})
			return err
		})
	}
	remove := func(job *batchv1.Job) {
		background := metav1.DeletePropagationBackground
		options := metav1.DeleteOptions{PropagationPolicy: &background, Preconditions: metav1.NewUIDPreconditions(string(job.UID))}
		call(func() error { return jobs.Delete(ctx, job.Name, options) })
	}
	for range s.parallelism {
		create()
	}
	var kept []*batchv1.Job
	known := map[string]bool{}
	for len(known) < s.trials {
		select {
		case err := <-errors:
			return err
		case job := <-events:
			if known[job.Name] || !finished(job) {
				continue
			}
			known[job.Name] = true
			create()
			kept = append(kept, job)
			if s.history >= 0 && len(kept) > s.history {
				remove(kept[0])
				kept = kept[1:]
			}
		}
	}
	// What measures looks at this process at its own time.
	<-ctx.Done()
	return nil
}

// finished is whether a Job has come to its end.
func finished(job *batchv1.Job) bool {
	for _, condition := range job.Status.Conditions {
		if condition.Status == corev1.ConditionTrue && (condition.Type == batchv1.JobComplete || condition.Type == batchv1.JobFailed) {
			return true
		}
	}
	return false
}
