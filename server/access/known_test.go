package access

import (
	"testing"
	"time"
)

func TestPrincipalsAreForgottenWhenNobodyAsks(t *testing.T) {
	now := time.Unix(noon, 0)
	var k known
	kept, lost := newSubject("certificate:a", []string{certificateGroup}), newSubject("jwt:b", nil)
	k.note(kept, now)
	k.note(lost, now)
	if _, ok := k.find("certificate:a", now.Add(forgetAfter/2)); !ok {
		t.Error("a principal is not found")
	}
	k.forget(now.Add(forgetAfter))
	if s, ok := k.find("certificate:a", now); !ok || s != kept {
		t.Error("a principal that was asked about is forgotten")
	}
	if _, ok := k.find("jwt:b", now); ok {
		t.Error("a principal that nobody asked about is remembered")
	}
	account := serviceAccount("im", "app", "pod", "node").subject
	k.note(account, now)
	k.forget(now.Add(time.Hour))
	if s, ok := k.find(account.Value().user, now); !ok || s != account || len(k.all) != 0 {
		t.Error("a ServiceAccount's groups follow from its name")
	}
}
