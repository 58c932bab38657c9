-- Makes the application's role, or gives it the password that the secret has now. Safe to repeat; in the container:
--     psql -X -d customerInvoice -f /etc/pgpersist/app-role.sql
\set ON_ERROR_STOP on
\set password `cat "$APP_PASSWORD_FILE"`
-- A statement with a password has no place in the server's log.
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';
SELECT 'CREATE ROLE app LOGIN' WHERE to_regrole('app') IS NULL \gexec
ALTER ROLE app PASSWORD :'password';
SELECT format('ALTER DATABASE %I OWNER TO app', current_database()) \gexec
