SET client_encoding = 'UTF8';
CREATE TYPE soil AS ENUM ('clay', 'sand', 'loam');
CREATE TABLE public.parcel (
    id bigint GENERATED ALWAYS AS IDENTITY,
    code character varying(20) DEFAULT 'x'::character varying NOT NULL,
    soils soil[] DEFAULT ARRAY['clay'::soil, 'loam'::soil],
    outline jsonb,
    CONSTRAINT parcel_code CHECK (((code)::text ~ '^[A-Z]{2}\d+$'::text))
);
CREATE FUNCTION touch() RETURNS trigger AS $body$
BEGIN
    -- don't touch what is not there
    NEW.seen := now();
    RETURN NEW;
END
$body$ LANGUAGE plpgsql;
CREATE INDEX parcel_outline ON parcel USING gin ((outline -> 'corners') jsonb_path_ops) WHERE outline @> '{"a": 1}' AND id >=-1;
COMMENT ON TABLE parcel IS 'what is farmed; it''s measured';
