// Package probe times one server through the path that its clients take: a
// session of its own, asked every Interval, where each question gives the
// kernel's word (acknowledged, by TCP_INFO) and the application's (answered,
// after how long).
//
// Evidence records and Judge classifies; both are pure. Prober does the I/O.
// What the bands mean for anybody is internal/verdict's business.
package probe
