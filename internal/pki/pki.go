// Package pki makes the certificates with which the parts of one installation
// know each other: an authority, and what it signs. It decides when one has to
// be made anew, and neither stores nor fetches anything.
package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"
)

// How long certificates live. One is renewed when a third of its life is left:
// whoever reads its file anew has a month to do so, an authority's three years.
const (
	AuthorityLife = 10 * 365 * 24 * time.Hour
	LeafLife      = 90 * 24 * time.Hour
)

// backdate is how far clocks may differ.
const backdate = 5 * time.Minute

// Pair is a certificate and its key, both PEM.
type Pair struct{ Cert, Key []byte }

// Authority signs certificates.
type Authority struct {
	Pair
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes an authority.
func NewAuthority(name string, now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of %s: %w", name, err)
	}
	return selfSign(name, key, now)
}

// ParseAuthority reads what NewAuthority made.
func ParseAuthority(p Pair) (*Authority, error) {
	cert, key, err := p.parse()
	if err != nil {
		return nil, err
	}
	if !cert.IsCA {
		return nil, errors.New("the certificate is not an authority's")
	}
	return &Authority{Pair: p, cert: cert, key: key}, nil
}

// Renewed is the authority, with a new certificate if the old one is in its
// last third. Name and key stay, so that what was signed before is good under the
// new one, and what is signed from now on under the old one: nobody has to
// change at once.
func (a *Authority) Renewed(now time.Time) (*Authority, error) {
	if !due(a.cert, now) {
		return a, nil
	}
	return selfSign(a.cert.Subject.CommonName, a.key, now)
}

// Leaf says what a certificate is for.
type Leaf struct {
	// Name is its common name.
	Name string
	// Names are the DNS names and addresses that it is for.
	Names []string
}

// Leaf is p if it is what leaf asks for, signed by a, and not in its last third;
// else a new pair. Whatever is wrong with p, a new one mends it.
func (a *Authority) Leaf(p Pair, leaf Leaf, now time.Time) (Pair, error) {
	if cert, _, err := p.parse(); err == nil && a.signed(cert) && leaf.matches(cert) && !due(cert, now) {
		return p, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("make the key of %s: %w", leaf.Name, err)
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: leaf.Name},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(LeafLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	template.DNSNames, template.IPAddresses = leaf.split()
	if p, err = sign(template, a.cert, key, a.key); err != nil {
		return Pair{}, fmt.Errorf("sign %s: %w", leaf.Name, err)
	}
	return p, nil
}

func (a *Authority) signed(cert *x509.Certificate) bool {
	return bytes.Equal(cert.RawIssuer, a.cert.RawSubject) && cert.CheckSignatureFrom(a.cert) == nil
}

// split tells names from addresses.
func (l Leaf) split() (names []string, addresses []net.IP) {
	for _, n := range l.Names {
		if ip := net.ParseIP(n); ip != nil {
			addresses = append(addresses, ip)
		} else {
			names = append(names, n)
		}
	}
	return names, addresses
}

func (l Leaf) matches(cert *x509.Certificate) bool {
	names, addresses := l.split()
	return cert.Subject.CommonName == l.Name && slices.Equal(cert.DNSNames, names) &&
		slices.EqualFunc(cert.IPAddresses, addresses, net.IP.Equal)
}

func selfSign(name string, key *ecdsa.PrivateKey, now time.Time) (*Authority, error) {
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: name},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(AuthorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	p, err := sign(template, template, key, key)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", name, err)
	}
	return ParseAuthority(p)
}

func sign(template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) (Pair, error) {
	var err error
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return Pair{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		return Pair{}, err
	}
	rawKey, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, err
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: rawKey}),
	}, nil
}

// due tells whether less than a third of a certificate's life is left.
func due(cert *x509.Certificate, now time.Time) bool {
	return now.Before(cert.NotBefore) || now.After(cert.NotAfter.Add(-cert.NotAfter.Sub(cert.NotBefore)/3))
}

func (p Pair) parse() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	pair, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		return nil, nil, err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, errors.New("the key is not of the kind that is made here")
	}
	return pair.Leaf, key, nil
}
