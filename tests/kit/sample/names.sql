-- Names that are legal and that nobody expects.
CREATE TABLE "A" (i int);
CREATE TABLE "a" (i int);
CREATE TABLE "a/b" (i int);
CREATE TABLE "../../etc/passwd" (i int);
CREATE TABLE ".." (i int);
CREATE TABLE "." (i int);
CREATE TABLE ".hidden" (i int);
CREATE TABLE "-rf" (i int);
CREATE TABLE "two words" (i int);
CREATE TABLE " leading and trailing " (i int);
CREATE TABLE "quo""ted" (i int);
CREATE TABLE "it's" (i int);
CREATE TABLE "back\slash" (i int);
CREATE TABLE "new
line" (i int);
CREATE TABLE "tab	carriage" (i int);
CREATE TABLE "dotted.name" (i int);
CREATE TABLE "100%" (i int);
CREATE TABLE "%41" (i int);
CREATE TABLE "nul" (i int);
CREATE TABLE "select" (i int);
CREATE TABLE "*" (i int);
CREATE TABLE "$(touch x);`ls`" (i int);
CREATE TABLE "日本語の長い名前をもつ表は六十三バイトになる" (i int);
CREATE TABLE "é" (i int);
CREATE TABLE U&"e\0301" (i int);
CREATE TABLE "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" (i int);
CREATE TABLE "Xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" (i int);
CREATE SCHEMA "odd schema/with ""all"" of it.";
CREATE TABLE "odd schema/with ""all"" of it."."table" (
    "select" int, "Quoted ""Column""" text, " " int, "new
line" text, "ctid " int, "col,comma" text
);
INSERT INTO "odd schema/with ""all"" of it."."table" VALUES (1, 'a', 2, 'b', 3, 'c'), (NULL, NULL, NULL, NULL, NULL, NULL);
CREATE SCHEMA a;
CREATE TABLE a."b.c" (i int);
CREATE SCHEMA "a.b";
CREATE TABLE "a.b".c (i int);
DO $$ DECLARE t regclass; BEGIN
    FOR t IN SELECT oid FROM pg_class WHERE relkind = 'r' AND relnatts = 1
            AND relnamespace IN ('public'::regnamespace, 'a'::regnamespace, '"a.b"'::regnamespace)
            AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = pg_class.oid AND attname = 'i') LOOP
        EXECUTE format('INSERT INTO %s SELECT generate_series(1, 3)', t);
    END LOOP;
END $$;
