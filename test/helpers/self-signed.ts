// The certificate that programs of the documents find in their directory: for localhost, signed by itself.

import { execFileSync } from 'node:child_process'

/** Makes `cert.pem` and `key.pem` in `directory`, and the same by the names that certbot gives: `fullchain.pem` and `privkey.pem`. */
export function selfSigned(directory: string): void {
  for (const [cert, key] of [
    ['cert.pem', 'key.pem'],
    ['fullchain.pem', 'privkey.pem']
  ] as const) {
    const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
    const args = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '90', ...names]
    execFileSync('openssl', [...args, '-keyout', key, '-out', cert], { cwd: directory, stdio: 'pipe' })
  }
}
