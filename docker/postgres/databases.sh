#!/bin/sh
# Run once by the database's image, on an empty volume: a role and a database for each part, so that none can read
# another's. Passwords come from files and are on no command line. The encoding is said: where the server's own locale is
# plain C it would be ASCII, and the first name or mark beyond it an error.
set -e
for part in airflow mlflow feast ledger; do
    psql -q -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d postgres <<SQL
\set password \`cat /run/secrets/${part}_db_password\`
CREATE ROLE $part LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'password';
CREATE DATABASE $part OWNER $part ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0;
REVOKE ALL ON DATABASE $part FROM PUBLIC;
SQL
done
psql -q -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d postgres -c "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC"
